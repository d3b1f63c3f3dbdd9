"""Metrics of a handful of requests that one can add up by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.workload.metrics import (
    SCALES,
    Alone,
    Served,
    attainments,
    by_model,
    counts,
    fairness,
    goodput,
    jain,
    latencies,
    percentiles,
    throughput,
)


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
    def share(done: list[Served], demanded: int) -> float:
        return attainments(done, lambda one: Alone(prefill_s=1.0, decode_s=0.0), demanded, [4.0]).latency[4.0]

    assert share(DONE, 4) == 0.5
    assert share(DONE, 8) == 0.25
    assert share([], 0) == 1.0


def test_jain_is_one_for_equals_and_one_over_n_for_a_winner():
    assert jain([0.4, 0.4, 0.4]) == pytest.approx(1.0)
    assert jain([1.0, 0.0, 0.0, 0.0]) == 0.25
    assert jain([0.0, 0.0]) == 1.0


def alone(one: Served) -> Alone:
    return Alone(prefill_s=0.5, decode_s=0.25)


def test_each_objective_is_held_against_what_the_request_takes_alone():
    slow_start = served("a", 5.0, first_s=4.0, outputs=5)  # 8 x its prefill, 1 x its tokens, 5 s of 1.75 alone
    slow_tokens = served("a", 9.0, first_s=0.5, outputs=5)  # 1 x, 8.5 x, 9 s of 1.75 alone
    found = attainments([slow_start, slow_tokens], alone, demanded=4)

    assert tuple(found.ttft) == tuple(found.tpot) == tuple(found.latency) == SCALES == tuple(range(2, 21))
    assert [found.ttft[scale] for scale in (2, 7, 8, 20)] == [0.25, 0.25, 0.5, 0.5]
    assert [found.tpot[scale] for scale in (2, 8, 9, 20)] == [0.25, 0.25, 0.5, 0.5]
    assert [found.latency[scale] for scale in (2, 3, 5, 6)] == [0.0, 0.25, 0.25, 0.5]


def test_a_request_of_one_token_meets_its_time_per_token_and_counts_in_no_percentile_of_it():
    one, many = served("a", 1.0, outputs=1), served("a", 5.0, outputs=5)

    assert attainments([one], alone, demanded=1).tpot[2] == 1.0
    assert latencies([one, many]).tpot_s["p50"] == latencies([many]).tpot_s["p50"] == 1.0
    assert latencies([one, many]).ttft_s == latencies([one]).ttft_s


def test_latencies_are_of_each_kind_and_of_each_model():
    split = by_model(DONE, ["a", "b", "idle"])

    assert {model: len(ones) for model, ones in split.items()} == {"a": 2, "b": 2, "idle": 0} == counts(DONE, ["a", "b", "idle"])
    assert latencies(split["a"]).latency_s["p50"] == 3.5
    assert latencies(split["b"]).latency_s["p50"] == 8.0
    assert latencies(DONE).latency_s["p50"] == 4.5
    assert math.isnan(latencies(split["idle"]).ttft_s["p99"])


def test_goodput_is_the_highest_rate_before_the_first_that_misses():
    assert goodput({1.0: 1.0, 2.0: 0.99, 4.0: 0.98}) == 2.0
    assert goodput({4.0: 1.0, 2.0: 0.5, 1.0: 1.0}) == 1.0
    assert goodput({1.0: 0.989}) == goodput({}) == 0.0
    assert goodput({1.0: 0.95}, least=0.9) == 1.0


def test_fairness_is_of_the_share_that_each_model_got_of_its_demand():
    assert fairness(DONE, {"a": 4, "b": 4}) == pytest.approx(1.0)
    assert fairness(DONE, {"a": 2, "b": 20, "idle": 0}) == pytest.approx(jain([1.0, 0.1]))
    assert fairness(DONE, {"a": 4, "b": 4, "starved": 9}) == pytest.approx(2 / 3)


TIMES = st.floats(0, 100)


@st.composite
def ended(draw) -> Served:
    arrival_s, wait_s, rest_s = draw(TIMES), draw(TIMES), draw(TIMES)
    first_s = arrival_s + wait_s
    return Served(
        model=draw(st.sampled_from("ab")),
        prompt_tokens=draw(st.integers(1, 100)),
        output_tokens=draw(st.integers(1, 100)),
        arrival_s=arrival_s,
        first_s=first_s,
        end_s=first_s + rest_s,
    )


@given(st.lists(ended()), st.integers(0, 5))
def test_attainment_never_falls_as_the_objective_loosens(done, lost):
    demanded = len(done) + lost
    found = attainments(done, alone, demanded)

    for kind in (found.ttft, found.tpot, found.latency):
        assert list(kind.values()) == sorted(kind.values())
        assert all(0 <= share <= (len(done) / demanded if demanded else 1) for share in kind.values())


@given(st.lists(st.floats(0, 1e3, allow_subnormal=False), min_size=1), st.floats(0.5, 100))
def test_jain_is_within_its_bounds_and_knows_no_unit(shares, factor):
    assert 1 / len(shares) - 1e-9 <= jain(shares) <= 1 + 1e-9
    if max(shares) > 1e-9:
        assert jain([share * factor for share in shares]) == pytest.approx(jain(shares))


@given(st.dictionaries(st.floats(0.1, 100), st.floats(0, 1)), st.floats(0.5, 1))
def test_no_rate_up_to_goodput_misses_and_the_next_does(attained, least):
    best = goodput(attained, least)
    beyond = [rate for rate in sorted(attained) if rate > best]

    assert all(share >= least for rate, share in attained.items() if rate <= best)
    assert not beyond or attained[beyond[0]] < least
