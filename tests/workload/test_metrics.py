"""Metrics of a handful of requests that one can add up by hand."""

import math

import pytest

from muxjax.workload.metrics import Served, attainment, jain, percentiles, throughput


def served(model: str, end_s: float, *, arrival_s: float = 0.0, first_s: float = 1.0, outputs: int = 5) -> Served:
    return Served(model=model, prompt_tokens=10, output_tokens=outputs, arrival_s=arrival_s, first_s=first_s, end_s=end_s)


DONE = [served("a", 3.0), served("a", 4.0), served("b", 5.0), served("b", 11.0)]


def test_latencies_are_counted_from_arrival_and_per_token_after_the_first():
    one = served("a", 5.0, arrival_s=0.5, first_s=1.0)

    assert (one.ttft_s, one.tpot_s, one.latency_s) == (0.5, 1.0, 4.5)
    assert served("a", 1.0, outputs=1).tpot_s == 0.0


def test_throughput_counts_what_ended_in_time_and_weighs_by_rate():
    found = throughput(DONE, {"a": 1.0, "b": 3.0}, 10.0)

    assert found.rps == pytest.approx(0.3)
    assert found.weighted_rps == pytest.approx((1 * 0.2 + 3 * 0.1) / 4)
    assert found.output_tokens_per_s == pytest.approx(1.5)
    assert found.total_tokens_per_s == pytest.approx(4.5)


def test_percentiles_of_nothing_are_no_number():
    assert percentiles([1.0, 2.0, 3.0], (50, 100)) == {"p50": 2.0, "p100": 3.0}
    assert math.isnan(percentiles([])["p99"])


def test_attainment_counts_what_never_ended_as_missed():
    assert attainment(DONE, [1.0, 1.0, 1.0, 1.0], 4.0, demanded=4) == 0.5
    assert attainment(DONE, [1.0, 1.0, 1.0, 1.0], 4.0, demanded=8) == 0.25
    assert attainment([], [], 4.0, demanded=0) == 1.0


def test_jain_is_one_for_equals_and_one_over_n_for_a_winner():
    assert jain([0.4, 0.4, 0.4]) == pytest.approx(1.0)
    assert jain([1.0, 0.0, 0.0, 0.0]) == 0.25
    assert jain([0.0, 0.0]) == 1.0
