"""Numbers of what was served: throughput, latencies, attainment, fairness. All are to be reported, never one alone."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SCALES = tuple(range(2, 21))
"""Scales of service-level objectives: times what a request would take alone."""
GOOD = 0.99
"""Share of the requests within their objective, from which on a rate counts as served."""


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
class Alone:
    """Seconds of a request on an idle device.

    Args:
      prefill_s: of its prompt; decode_s: of one token, in the mean.
    """

    prefill_s: float
    decode_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Throughput: what a second brought.

    Args:
      weighted_rps: sum of rate x requests a second over the models, by the sum of rates.
    """

    rps: float
    weighted_rps: float
    output_tokens_per_s: float
    total_tokens_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """Percentiles in seconds, such as {"p50": 0.1, "p90": 0.2, "p99": 0.4}."""

    ttft_s: Mapping[str, float]
    tpot_s: Mapping[str, float]
    latency_s: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attainment:
    """Share of the demanded requests within their objectives, by the objectives' scale.

    Args:
      ttft: of the time alone for the prefill; tpot: for a token; latency: for the prefill and every output token.
    """

    ttft: Mapping[float, float]
    tpot: Mapping[float, float]
    latency: Mapping[float, float]


def throughput(served: Collection[Served], rates: Mapping[str, float], duration_s: float) -> Throughput:
    """Throughput of the requests that ended within duration_s.

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
    found = Counter(one.model for one in served)
    return {model: found[model] for model in models}


def by_model(served: Iterable[Served], models: Iterable[str]) -> dict[str, list[Served]]:
    """The requests of each model, in their order; none of a model is an empty list."""
    found: dict[str, list[Served]] = {model: [] for model in models}
    for one in served:
        found[one.model].append(one)
    return found


def percentiles(values: Sequence[float], at: Sequence[float] = (50, 90, 99)) -> dict[str, float]:
    """Such as {"p50": 0.1, "p99": 0.4}; NaN of nothing."""
    found = np.percentile(values, at) if len(values) else np.full(len(at), np.nan)
    return {f"p{percentile:g}": float(value) for percentile, value in zip(at, found, strict=True)}


def latencies(served: Collection[Served]) -> Latencies:
    """Latencies of the requests that ended. Those of one output token have no time per token, and none is counted."""
    return Latencies(
        ttft_s=percentiles([one.ttft_s for one in served]),
        tpot_s=percentiles([one.tpot_s for one in served if one.output_tokens > 1]),
        latency_s=percentiles([one.latency_s for one in served]),
    )


def attainments(
    served: Collection[Served], alone: Callable[[Served], Alone], demanded: int, scales: Sequence[float] = SCALES
) -> Attainment:
    """Attainment of the three objectives at each scale; a request that never ended missed all of them.

    Args:
      demanded: how many requests came.
    """
    idle = [alone(one) for one in served]
    prefill_s, decode_s = [one.prefill_s for one in idle], [one.decode_s for one in idle]
    whole_s = [base.prefill_s + one.output_tokens * base.decode_s for one, base in zip(served, idle, strict=True)]
    ttft_s, tpot_s, latency_s = ([getattr(one, name) for one in served] for name in ("ttft_s", "tpot_s", "latency_s"))
    return Attainment(
        ttft={scale: _within(ttft_s, prefill_s, scale, demanded) for scale in scales},
        tpot={scale: _within(tpot_s, decode_s, scale, demanded) for scale in scales},
        latency={scale: _within(latency_s, whole_s, scale, demanded) for scale in scales},
    )


def goodput(attained: Mapping[float, float], least: float = GOOD) -> float:
    """The highest rate up to which every tried one had an attainment of least; 0 if the lowest had not.

    Args:
      attained: attainment by rate, of runs that differ in nothing else.
    """
    best = 0.0
    for rate, share in sorted(attained.items()):
        if share < least:
            break
        best = rate
    return best


def jain(shares: Sequence[float]) -> float:
    """Jain's index of served/demanded shares: 1 if all are equal, 1/n if one has everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def fairness(served: Iterable[Served], demanded: Mapping[str, int]) -> float:
    """Jain's index of served/demanded over the models that were asked."""
    found = counts(served, demanded)
    return jain([found[model] / count for model, count in demanded.items() if count])


def _within(values_s: Sequence[float], alone_s: Sequence[float], scale: float, demanded: int) -> float:
    kept = np.count_nonzero(np.asarray(values_s) <= scale * np.asarray(alone_s))
    return float(kept / demanded) if demanded else 1.0
