"""Histograms that one thread keeps, for what is counted with every token or step: some hundred nanoseconds each, where the client library
takes microseconds."""

import itertools
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class Tally:
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


class Tallies(Collector):
    """A histogram, by labels. One thread adds, any may collect."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str], limits: Sequence[float]):
        self._name, self._help_text, self._labels, self._limits = name, help_text, labels, limits
        self._tallies: dict[tuple[str, ...], Tally] = {}

    def labels(self, *values: str) -> Tally:
        """That of those labels, from now on one of them."""
        tally = self._tallies.get(values)
        if tally is None:
            tally = self._tallies[values] = Tally(self._limits)
        return tally

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._help_text, labels=self._labels)
        for key, tally in list(self._tallies.items()):
            family.add_metric(key, buckets=tally.buckets(), sum_value=tally.sum)
        yield family

    def describe(self) -> Iterator[Metric]:
        yield from ()
