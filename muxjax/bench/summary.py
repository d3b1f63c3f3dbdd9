"""What runs of a load come to: one value of numbers, from their records."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from muxjax.bench.alone import of_fits
from muxjax.bench.lag import Lag, lag_of
from muxjax.bench.records import AloneFit, Record, Run
from muxjax.bench.targets import Targets
from muxjax.workload import metrics
from muxjax.workload.metrics import Served, Throughput

PERCENTILES = (50, 90, 95, 99)
SCALES = (2, 5, 8, 10, 20)
"""Multiples of what a request takes alone, of which attainment is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Times of a kind, in seconds; NaN of none. percentiles by name, such as "p99"."""

    mean: float
    std: float
    percentiles: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What requests of one model came to, or of all.

    Args:
      demanded: requests that ended, well or not; good: those within the targets; None where there are none to hold them against.
      within: share of the demanded requests within each target in seconds; scaled: by the scale of what they take alone.
    """

    demanded: int
    completed: int
    prompt_tokens: int
    output_tokens: int
    throughput: Throughput
    ttft: Times
    tpot: Times
    itl: Times
    e2el: Times
    good: int | None
    within: Mapping[str, float]
    scaled: Mapping[float, float]

    @property
    def attained(self) -> float | None:
        """Share of the demanded requests within their targets; None where nothing tells, or none has ended."""
        return self.good / self.demanded if self.good is not None and self.demanded else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What runs of one load, of one seed each, came to.

    Args:
      complete: every request was sent and has ended, in all runs.
      fairness: Jain's index of the shares of the models' requests within their targets (of those that ended, where there are none).
      peak_output_tokens_per_s, peak_requests: most of a second, and at once.
      seeds: of each seed alone, all models; errors: how often each was met.
    """

    duration_s: float
    complete: bool
    targets: Targets
    all: Numbers
    models: Mapping[str, Numbers]
    seeds: Sequence[tuple[int, Numbers]]
    fairness: float
    peak_output_tokens_per_s: int
    peak_requests: int
    lag: Lag
    errors: Mapping[str, int]


def summary(runs: Sequence[Run], targets: Targets) -> Summary:
    """The summary of at least one run; durations are added up, so that throughputs are those of the mean run."""
    duration_s = sum(run.duration_s for run in runs)
    records = [record for run in runs for record in run.records]
    rates, alone = _rates(runs), _alone(runs)
    models = {model: _numbers([one for one in records if one.model == model], rates, alone, targets, duration_s) for model in rates}
    kept = {model: (own.completed if own.good is None else own.good) / own.demanded for model, own in models.items() if own.demanded}
    return Summary(
        duration_s=duration_s,
        complete=all(run.complete for run in runs),
        targets=targets,
        all=_numbers(records, rates, alone, targets, duration_s),
        models=models,
        seeds=[(run.begin.seed, _numbers(run.records, run.begin.rates, run.begin.alone, targets, run.duration_s)) for run in runs],
        fairness=metrics.jain(list(kept.values())) if kept else 1.0,
        peak_output_tokens_per_s=max(peak_tokens(run.records) for run in runs),
        peak_requests=max(peak_requests(run.records) for run in runs),
        lag=lag_of(runs),
        errors=dict(Counter(record.error for record in records if record.error).most_common()),
    )


def is_good(one: Served, targets: Targets, alone: Mapping[str, AloneFit]) -> bool | None:
    """Whether an answer keeps to all targets that are given in seconds, or else to the scale; None where nothing tells."""
    if targets.absolute:
        return all(_value(one, name) <= target_s for name, target_s in targets.absolute.items())
    if one.model not in alone:
        return None
    base = of_fits(alone)(one)
    return one.latency_s <= targets.slo_scale * (base.prefill_s + one.output_tokens * base.decode_s)


def _numbers(
    records: Sequence[Record], rates: Mapping[str, float], alone: Mapping[str, AloneFit], targets: Targets, duration_s: float
) -> Numbers:
    served = [one for record in records if (one := record.served)]
    verdicts = [is_good(one, targets, alone) for one in served]
    were_alone = set(rates) <= set(alone)
    within = {name: _share([_value(one, name) <= target_s for one in served], len(records)) for name, target_s in targets.absolute.items()}
    scaled = metrics.attainments(served, of_fits(alone), len(records), SCALES).latency if were_alone else {}
    return Numbers(
        demanded=len(records),
        completed=len(served),
        prompt_tokens=sum(one.prompt_tokens for one in served),
        output_tokens=sum(one.output_tokens for one in served),
        throughput=metrics.throughput(served, rates, duration_s or 1.0),
        ttft=times([one.ttft_s for one in served]),
        tpot=times([one.tpot_s for one in served if one.output_tokens > 1]),
        itl=times([gap_s for record in records if record.served for gap_s in record.gaps_s]),
        e2el=times([one.latency_s for one in served]),
        good=sum(map(bool, verdicts)) if targets.absolute or were_alone else None,
        within=within,
        scaled=scaled,
    )


def _rates(runs: Sequence[Run]) -> dict[str, float]:
    """Requests a second of each model, in the mean run: a seed need not ask every model that another one asks."""
    models = sorted({model for run in runs for model in run.begin.rates})
    return {model: sum(run.begin.rates.get(model, 0.0) for run in runs) / len(runs) for model in models}


def _alone(runs: Sequence[Run]) -> dict[str, AloneFit]:
    """Of each model that was asked alone before one of the runs, what the first of them found."""
    return {model: fit for run in reversed(runs) for model, fit in run.begin.alone.items()}


def times(values_s: Sequence[float]) -> Times:
    """Mean, spread and percentiles."""
    values = np.asarray(values_s) if len(values_s) else np.array([np.nan])
    return Times(mean=float(values.mean()), std=float(values.std()), percentiles=metrics.percentiles(values_s, PERCENTILES))


def peak_requests(records: Sequence[Record]) -> int:
    """Most requests that were open at once."""
    changes = sorted([(record.end_s, -1) for record in records] + [(record.sent_s, 1) for record in records])
    open_now = most = 0
    for _, change in changes:
        open_now += change
        most = max(most, open_now)
    return most


def peak_tokens(records: Sequence[Record]) -> int:
    """Most output tokens that came in one second of the run's clock."""
    seconds: dict[int, float] = defaultdict(float)
    for record in records:
        if record.served and record.first_s is not None:
            events_s = np.cumsum([record.first_s, *record.gaps_s])
            each = record.output_tokens / len(events_s)  # several tokens may have come as one event
            for second, events in Counter(events_s.astype(int).tolist()).items():
                seconds[second] += events * each
    return round(max(seconds.values(), default=0))


def _value(one: Served, name: str) -> float:
    return one.latency_s if name == "e2e" else getattr(one, f"{name}_s")


def _share(kept: Sequence[bool], demanded: int) -> float:
    return sum(kept) / demanded if demanded else 1.0
