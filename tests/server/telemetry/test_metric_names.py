"""Names of metrics keep Prometheus' rules, but for the prefix that they share with vLLM."""

import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from tests.server.telemetry.filled import filled_metrics

PREFIX = "vllm:"
NOT_BASE_UNITS = (
    "milliseconds",
    "microseconds",
    "minutes",
    "hours",
    "days",
    "kilobytes",
    "megabytes",
    "bits",
    "percent",
    "ms",
    "us",
    "kb",
    "mb",
)
TYPES = ("counter", "gauge", "histogram", "summary")


def faults(exposition: bytes) -> list[str]:
    """What `promtool check metrics` says of them, family by family, but of the prefix."""
    return [f"{name} {fault}" for name, metric in _families(exposition) for fault in _faults(name, metric)]


def _families(exposition: bytes) -> Iterator[tuple[str, Metric]]:
    """With the names that the text gives them: the parser takes `_total` from a counter's."""
    for metric in text_string_to_metric_families(exposition.decode()):
        is_total = metric.type == "counter" and any(sample.name.endswith("_total") for sample in metric.samples)
        yield metric.name + "_total" * is_total, metric


def _faults(name: str, metric: Metric) -> Iterator[str]:
    words = name.removeprefix(PREFIX).split("_")
    if not metric.documentation:
        yield "has no help"
    if (metric.type == "counter") != (words[-1] == "total"):
        yield "is a counter, or is called _total, and not both"
    if metric.type != "histogram" and words[-1] in ("bucket", "count", "sum"):
        yield f"is no histogram, and ends in _{words[-1]}"
    if metric.type != "histogram" and any("le" in sample.labels for sample in metric.samples):
        yield "is no histogram, and has the label le"
    if found := set(words).intersection((*NOT_BASE_UNITS, *TYPES)):
        yield f"has {found} in its name"
    for text in (name.removeprefix(PREFIX), *(label for sample in metric.samples for label in sample.labels)):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", text):
            yield f"{text} is no name in small letters"


def test_names_keep_the_rules():
    assert faults(filled_metrics().exposition()) == []


def test_every_family_has_something_to_tell():
    assert [metric.name for _, metric in _families(filled_metrics().exposition()) if not metric.samples] == []


def test_what_steps_compute_is_a_histogram():
    kinds = {name: metric.type for name, metric in _families(filled_metrics().exposition())}
    assert kinds["muxjax_step_tokens"] == "histogram"
    assert {name for name, kind in kinds.items() if kind == "counter"} == {name for name in kinds if name.endswith("_total")}


class _Total(Collector):
    """A histogram by a counter's name."""

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily("vllm:steps_total", "Steps.")
        family.add_metric((), [("1.0", 1), ("+Inf", 1)], 0.5)
        yield family


def test_what_breaks_them_is_found():
    registry = CollectorRegistry()
    registry.register(_Total())
    Gauge("a_total", "Help.", registry=registry)
    Gauge("b_milliseconds", "Help.", ["le"], registry=registry).labels("1").set(1)
    Gauge("c", "", registry=registry)
    Histogram("dE", "Help.", registry=registry)
    Counter("e_gauge", "Help.", registry=registry)
    found = {line.split(" ")[0] for line in faults(generate_latest(registry))}
    assert found == {"vllm:steps_total", "a_total", "b_milliseconds", "c", "dE", "dE_created", "e_gauge_total", "e_gauge_created"}


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool, of the package prometheus")
def test_promtool_agrees():
    checked = subprocess.run(["promtool", "check", "metrics"], input=filled_metrics().exposition(), capture_output=True, timeout=60)
    lines = (checked.stdout + checked.stderr).decode().splitlines()
    assert [line for line in lines if not re.fullmatch(PREFIX + r"\w+ metric names should not contain ':'", line)] == []
