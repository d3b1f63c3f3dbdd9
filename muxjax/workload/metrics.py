"""Numbers of what was served: throughput, latencies, attainment, fairness."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A request that ended, in its tokens and times."""

    model: str
    prompt_tokens: int
    output_tokens: int
    arrival_s: float
    first_s: float
    end_s: float

    @property
    def ttft_s(self) -> float:
        """Time to the first token."""
        return self.first_s - self.arrival_s

    @property
    def tpot_s(self) -> float:
        """Time per output token after the first, 0 if there is none."""
        return (self.end_s - self.first_s) / max(1, self.output_tokens - 1)

    @property
    def latency_s(self) -> float:
        return self.end_s - self.arrival_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What a second brought.

    Args:
      weighted_rps: sum of rate x requests a second over the models, by the sum of rates.
    """

    rps: float
    weighted_rps: float
    output_tokens_per_s: float
    total_tokens_per_s: float


def throughput(served: Collection[Served], rates: Mapping[str, float], duration_s: float) -> Throughput:
    """Of the requests that ended within duration_s.

    Args:
      rates: demanded requests a second of each model.
    """
    ended = [one for one in served if one.end_s <= duration_s]
    per_model = counts(ended, rates)
    outputs, prompts = sum(one.output_tokens for one in ended), sum(one.prompt_tokens for one in ended)
    return Throughput(
        rps=len(ended) / duration_s,
        weighted_rps=sum(rate * per_model[model] for model, rate in rates.items()) / sum(rates.values()) / duration_s,
        output_tokens_per_s=outputs / duration_s,
        total_tokens_per_s=(outputs + prompts) / duration_s,
    )


def counts(served: Iterable[Served], models: Iterable[str]) -> dict[str, int]:
    """Requests of each model."""
    found = [one.model for one in served]
    return {model: found.count(model) for model in models}


def percentiles(values: Sequence[float], at: Sequence[float] = (50, 90, 99)) -> dict[str, float]:
    """Such as {"p50": 0.1, "p99": 0.4}; NaN of nothing."""
    found = np.percentile(values, at) if len(values) else np.full(len(at), np.nan)
    return {f"p{percentile:g}": float(value) for percentile, value in zip(at, found, strict=True)}


def attainment(served: Iterable[Served], alone_s: Sequence[float], scale: float, demanded: int) -> float:
    """Share of the demanded requests that ended within scale x the time they would take alone; one that never ended missed it.

    Args:
      alone_s: of each served request, in the same order.
    """
    kept = sum(one.latency_s <= scale * base_s for one, base_s in zip(served, alone_s, strict=True))
    return kept / demanded if demanded else 1.0


def jain(shares: Sequence[float]) -> float:
    """Jain's index of served/demanded shares: 1 if all are equal, 1/n if one has everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0
