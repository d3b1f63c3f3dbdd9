"""Requests are counted against the targets of their models."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from muxjax.server.telemetry.metrics import Metrics
from muxjax.types import Finish
from tests.fakes import FakeEngine
from tests.server.http.test_app import ask
from tests.server.http.test_info import OPTIONS
from tests.server.telemetry.test_trace import request


def counts(metrics: Metrics) -> dict[tuple[str, str], float]:
    """By "requests" or "attained", and target."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    samples = [sample for family in families for sample in family.samples]
    return {
        (sample.name.removeprefix("muxjax_slo_").removesuffix("_total"), sample.labels["target"]): sample.value
        for sample in samples
        if sample.name in ("muxjax_slo_requests_total", "muxjax_slo_attained_total")
    }


@pytest.mark.parametrize(
    "changes, ttft, tpot",
    [
        ({}, (1, 1), (1, 1)),  # a first token after 0.5 s, and 0.25 s between tokens
        ({"first_s": 1.75}, (1, 0), (1, 1)),
        ({"tokens": 3}, (1, 1), (1, 0)),
        ({"tokens": 1}, (1, 1), None),
        ({"finish": Finish.ABORT}, None, None),
        ({"finish": Finish.FAILED}, (1, 0), (1, 0)),
        ({"finish": Finish.FAILED, "first_s": None, "last_s": None, "tokens": 0}, (1, 0), (1, 0)),
    ],
)
def test_a_request_meets_its_targets_or_not(changes, ttft, tpot):
    metrics = Metrics(FakeEngine(["a"]).unit_stats)
    metrics.judge(request(**changes), ttft_s=0.5, tpot_s=0.25)
    found = counts(metrics)

    for target, expected in (("ttft", ttft), ("tpot", tpot)):
        given = (found["requests", target], found["attained", target]) if ("requests", target) in found else None
        assert given == expected, target


def test_a_model_without_targets_is_not_judged():
    metrics = Metrics(FakeEngine(["a"]).unit_stats)
    metrics.judge(request(), ttft_s=None, tpot_s=None)

    assert counts(metrics) == {}


def test_served_requests_are_judged_by_the_options_of_their_model(serve):
    with serve(options=OPTIONS) as server:
        for model in ("a", "plain"):
            ask(server, "POST", "/v1/completions", {"model": model, "prompt": "hello", "max_tokens": 3})
        found = counts(server.service.metrics)

    assert found == {
        ("requests", "ttft"): 1, ("attained", "ttft"): 1, ("requests", "tpot"): 1, ("attained", "tpot"): 1,
    }  # fmt: skip
