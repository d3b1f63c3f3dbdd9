"""Which replica of a model gets a request: the one with the least to do for what it can."""

from collections.abc import Sequence
from typing import NamedTuple


class Replica(NamedTuple):
    """One of the places of a model.

    Args:
      outstanding_tokens: of the requests that it has, those still to be computed.
      rate_rps: requests a second that it is to serve, over 0; only the replicas' ratios count.
      routed: requests that it has got so far.
    """

    outstanding_tokens: float
    rate_rps: float
    routed: int = 0


def route(replicas: Sequence[Replica]) -> int:
    """Index of the replica for the next request: the one with the least outstanding for its rate.

    Of equals, such as idle ones, it is the one that has had the fewest requests for its rate, so that each gets its part; then the first.
    """
    return min(range(len(replicas)), key=lambda i: (*_burden(replicas[i]), i))


def _burden(replica: Replica) -> tuple[float, float]:
    return replica.outstanding_tokens / replica.rate_rps, (replica.routed + 1) / replica.rate_rps
