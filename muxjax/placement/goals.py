"""Goals of a placement: what it is worth to serve a share of what is asked of one LLM, so that of a unit is a sum.

A served share counts within the LLM's targets only. Every goal is worth nothing at a share of 0 and most at 1; they differ in between, and
so in who is served where not all can be. The curves of `balanced` and `max-min` count all LLMs alike, be they asked twice an hour or
a hundred times a second, and rise most steeply where little is served: no LLM is starved for the sake of the sum.
"""

from collections.abc import Callable, Mapping

MISSED = 0.1
"""What is served outside of a target is worth at most this share of the same within it: enough for a search to tell near from far."""


def throughput(rate_rps: float, share: float) -> float:
    """Requests a second, whoever's: the sum of MuxServe's equation 1."""
    return rate_rps * share


def balanced(rate_rps: float, share: float) -> float:
    """What an LLM of which half is served gains by another tenth is some five times what one gains that lacks a tenth."""
    return _diminishing(share, power=2, scarce=0.01)


def max_min(rate_rps: float, share: float) -> float:
    """As `balanced`, but so steep that next to the LLM that is served least the others hardly count."""
    return _diminishing(share, power=4, scarce=0.05)


Worth = Callable[[float, float], float]
"""Of (an LLM's rate_rps, the share of it that is served), 0 to 1; rises with the share."""

GOALS: Mapping[str, Worth] = {
    "balanced": balanced,
    "throughput": throughput,
    "max-min": max_min,
    "fewest-devices": balanced,
    "least-cost": balanced,
}
"""By the names that a problem gives. The last two serve everything with the least, and are `balanced` where that cannot be."""


def in_time(ttft_s: float, tpot_s: float, most_ttft_s: float | None, most_tpot_s: float | None) -> float:
    """What a request with those times is worth, of one within the targets (None for no target): 1, or at most MISSED.

    One that waits twice as long as it may is worth less than one that waits a tenth longer, and one that waits for ever the least.
    """
    nearest = min((target / seconds for seconds, target in ((ttft_s, most_ttft_s), (tpot_s, most_tpot_s)) if target), default=1.0)
    return 1.0 if nearest >= 1 else MISSED * (1 + nearest) / 2


def _diminishing(share: float, power: int, scarce: float) -> float:
    """Minus the share to the power of -power, which turns to a line well below `scarce`; scaled to 0 at 0 and 1 at 1."""
    return (1 - (1 + share / scarce) ** -power) / (1 - (1 + 1 / scarce) ** -power)
