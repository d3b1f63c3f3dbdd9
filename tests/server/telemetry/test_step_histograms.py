"""Histograms of steps are those that Prometheus' own client would make."""

import hypothesis.strategies as st
from hypothesis import given
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from muxjax.server.telemetry.step_histograms import _SECONDS, StepHistograms
from tests.server.telemetry.test_trace import job

SECONDS = st.one_of(st.floats(0, 10), st.sampled_from(_SECONDS))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(("prefill", "decode")), SECONDS), max_size=30))
def test_they_are_those_of_the_client_library(steps):
    ours, registry = StepHistograms(), CollectorRegistry()
    theirs = Histogram("muxjax_scheduler_step_seconds", "x", ("model_name", "unit", "phase"), buckets=_SECONDS, registry=registry)
    for model, phase, seconds in steps:
        ours.add(job(model=model, phase=phase, start_s=0.0, end_s=seconds))
        theirs.labels(model, "0", phase).observe(seconds)

    assert samples(ours) == samples(registry)


def test_tokens_are_counted_by_model():
    steps = StepHistograms()
    for tokens in (1, 3, 4, 40_000):
        steps.add(job(tokens=tokens))
    found = samples(steps, "muxjax_step_tokens")

    limits = {labels[0][1]: value for (name, labels), value in found.items() if name.endswith("_bucket") for labels in [sorted(labels)]}
    assert (limits["1.0"], limits["2.0"], limits["4.0"], limits["16384.0"], limits["+Inf"]) == (1, 1, 3, 3, 4)


def samples(collector, family: str = "muxjax_scheduler_step_seconds") -> dict:
    """Values of a histogram by name and labels, without when it was made."""
    parsed = {each.name: each.samples for each in text_string_to_metric_families(generate_latest(collector).decode())}
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in parsed.get(family, ())}
    return {key: round(value, 9) for key, value in found.items() if not key[0].endswith("_created")}


def test_computed_tokens_and_those_among_them_that_were_padding_are_counted_by_model_and_kind_of_step():
    steps = StepHistograms()
    for phase, tokens, padding in (("prefill", 210, 46), ("prefill", 128, 0), ("decode", 3, 5)):
        steps.add(job(phase=phase, tokens=tokens, padding=padding))

    def counts(name: str) -> dict[str, float]:
        return {dict(labels)["phase"]: value for (_, labels), value in samples(steps, name).items()}

    assert counts("muxjax_step_computed_tokens") == {"prefill": 384, "decode": 8}
    assert counts("muxjax_step_padding_tokens") == {"prefill": 46, "decode": 5}
