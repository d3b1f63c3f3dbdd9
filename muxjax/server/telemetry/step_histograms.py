"""Histograms and counts of steps, kept in the engine's thread: some hundred nanoseconds each; the client library takes microseconds."""

import itertools
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from muxjax.engine.job_records import JobRecord

_SECONDS = (.0005, .001, .002, .004, .008, .016, .032, .064, .128, .256, .512, 1, 2, 4)  # fmt: skip
_TOKENS = tuple(2**power for power in range(15))
_LABELS = ("model_name", "unit", "phase")


class StepHistograms(Collector):
    """Histograms of what steps took and computed, and how much of that was padding. One thread adds, any may collect."""

    def __init__(self):
        self._seconds: dict[tuple[str, ...], _Tally] = {}
        self._tokens: dict[tuple[str, ...], _Tally] = {}
        self._computed: Counter[tuple[str, str, str]] = Counter()
        self._padding: Counter[tuple[str, str, str]] = Counter()

    def add(self, job: JobRecord) -> None:
        _tally(self._seconds, (job.model, job.unit, job.phase), _SECONDS).add(job.end_s - job.start_s)
        _tally(self._tokens, (job.model, job.unit), _TOKENS).add(job.tokens)
        self._computed[job.model, job.unit, job.phase] += job.tokens + job.padding
        self._padding[job.model, job.unit, job.phase] += job.padding

    def collect(self) -> Iterator[Metric]:
        yield _family("muxjax_scheduler_step_seconds", "Of a step, by its rows.", _LABELS, self._seconds)
        yield _family("muxjax_step_tokens", "New tokens of a step.", _LABELS[:2], self._tokens)
        yield _counts("muxjax_step_computed_tokens", "Tokens that steps computed, padding among them, by their rows.", self._computed)
        yield _counts("muxjax_step_padding_tokens", "Those of them that were padding.", self._padding)

    def describe(self) -> Iterator[Metric]:
        yield from ()


class _Tally:
    """Counts of values by bucket, the last one for those above all limits, and their sum."""

    def __init__(self, limits: Sequence[float]):
        self._limits = limits
        self._counts = [0] * (len(limits) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._limits, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Prometheus' buckets: values up to each limit."""
        names = [*map(str, map(float, self._limits)), "+Inf"]
        return list(zip(names, itertools.accumulate(self._counts), strict=True))


def _tally(tallies: "dict[tuple[str, ...], _Tally]", key: tuple[str, ...], limits: Sequence[float]) -> _Tally:
    tally = tallies.get(key)
    if tally is None:
        tally = tallies[key] = _Tally(limits)
    return tally


def _counts(name: str, help_text: str, counts: Mapping[tuple[str, str, str], int]) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=_LABELS)
    for key, count in list(counts.items()):
        family.add_metric(key, count)
    return family


def _family(name: str, help_text: str, labels: Sequence[str], tallies: "dict[tuple[str, ...], _Tally]") -> Metric:
    family = HistogramMetricFamily(name, help_text, labels=labels)
    for key, tally in list(tallies.items()):
        family.add_metric(key, buckets=tally.buckets(), sum_value=tally.sum)
    return family
