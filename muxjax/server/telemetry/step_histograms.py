"""Histograms and counts of steps, kept in the engine's thread."""

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from muxjax.engine.job_records import JobRecord
from muxjax.server.telemetry.tallies import Tallies

_SECONDS = (.0005, .001, .002, .004, .008, .016, .032, .064, .128, .256, .512, 1, 2, 4)  # fmt: skip
_TOKENS = tuple(2**power for power in range(15))
_LABELS = ("model_name", "unit", "phase")


class StepHistograms(Collector):
    """Histograms of what steps took and computed, and how much of that was padding. One thread adds, any may collect."""

    def __init__(self):
        self._seconds = Tallies("muxjax_scheduler_step_seconds", "Of a step, by its rows.", _LABELS, _SECONDS)
        self._tokens = Tallies("muxjax_step_tokens", "New tokens of a step.", _LABELS[:2], _TOKENS)
        self._computed: Counter[tuple[str, str, str]] = Counter()
        self._padding: Counter[tuple[str, str, str]] = Counter()

    def add(self, job: JobRecord) -> None:
        self._seconds.labels(job.model, job.unit, job.phase).add(job.end_s - job.start_s)
        self._tokens.labels(job.model, job.unit).add(job.tokens)
        self._computed[job.model, job.unit, job.phase] += job.tokens + job.padding
        self._padding[job.model, job.unit, job.phase] += job.padding

    def collect(self) -> Iterator[Metric]:
        yield from self._seconds.collect()
        yield from self._tokens.collect()
        yield _counts("muxjax_step_computed_tokens", "Tokens that steps computed, padding among them, by their rows.", self._computed)
        yield _counts("muxjax_step_padding_tokens", "Those of them that were padding.", self._padding)

    def describe(self) -> Iterator[Metric]:
        yield from ()


def _counts(name: str, help_text: str, counts: Mapping[tuple[str, str, str], int]) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=_LABELS)
    for key, count in list(counts.items()):
        family.add_metric(key, count)
    return family
