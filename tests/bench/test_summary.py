"""Numbers of runs, against what a person computes."""

import math

import numpy as np
import pytest

from muxjax.bench.alone import asked_alone, fitted
from muxjax.bench.lag import lag_of
from muxjax.bench.summary import peak_requests, peak_tokens, summary
from muxjax.bench.targets import Targets
from muxjax.errors import ConfigError
from muxjax.workload.load import Load
from muxjax.workload.metrics import Served
from muxjax.workload.trace import Arrival
from tests.bench.kit import ALONE, failed, record, run

NONE = Targets()


def test_counts_and_throughputs_are_of_what_ended_well():
    found = summary([run(record("a"), record("a", 1.0), record("b", 2.0), failed("b", 3.0))], NONE)

    assert (found.all.demanded, found.all.completed, found.all.prompt_tokens, found.all.output_tokens) == (4, 3, 300, 9)
    assert found.all.throughput.rps == pytest.approx(0.3)
    assert found.all.throughput.output_tokens_per_s == pytest.approx(0.9)
    assert found.all.throughput.total_tokens_per_s == pytest.approx(30.9)
    assert found.all.throughput.weighted_rps == pytest.approx((1.5 * 0.2 + 0.5 * 0.1) / 2.0)
    assert found.errors == {"busy": 1}
    assert {model: own.demanded for model, own in found.models.items()} == {"a": 2, "b": 2}


def test_times_are_those_of_numpy():
    firsts = [0.1 * k for k in range(1, 21)]
    found = summary([run(*(record("a", first_s=first) for first in firsts))], NONE).all

    assert found.ttft.mean == pytest.approx(np.mean(firsts)) and found.ttft.std == pytest.approx(np.std(firsts))
    assert found.ttft.percentiles == pytest.approx({f"p{at}": np.percentile(firsts, at) for at in (50, 90, 95, 99)})
    assert found.tpot.mean == pytest.approx(0.1)
    assert found.e2el.percentiles["p50"] == pytest.approx(np.median(firsts) + 0.2)


def test_time_per_token_is_of_the_tokens_and_gaps_are_of_the_events():
    found = summary([run(record(gaps_s=(0.4,), output_tokens=5), record(gaps_s=()))], NONE).all

    assert found.tpot.mean == pytest.approx(0.1)  # four tokens after the first; one alone has no such time
    assert found.itl.mean == pytest.approx(0.4)


def test_latency_counts_from_the_intended_time():
    assert summary([run(record(sent_s=0.15))], NONE).all.ttft.mean == pytest.approx(0.2)


def test_attainment_counts_what_failed_as_missed():
    records = record(first_s=0.1), record(first_s=0.3), record(first_s=0.2, gaps_s=(0.5, 0.5)), failed()
    found = summary([run(*records)], Targets(ttft_s=0.25, tpot_s=0.2))

    assert found.all.within == {"ttft": 0.5, "tpot": 0.5}
    assert (found.all.good, found.all.attained) == (1, 0.25)


def test_scales_are_of_what_a_request_takes_alone():
    # alone: 0.1 s + 100 x 1 ms, and 3 x 10 ms: 0.23 s
    found = summary([run(record(first_s=0.2, gaps_s=(0.1, 0.1)), record(first_s=1.5))], Targets(slo_scale=5))

    assert found.all.scaled == {2: 0.5, 5: 0.5, 8: 1.0, 10: 1.0, 20: 1.0}
    assert found.all.attained == 0.5
    unknown = summary([run(record(), alone={})], NONE)
    assert unknown.all.attained is None and unknown.all.scaled == {}


def test_fairness_is_of_the_shares_within_their_targets():
    assert summary([run(record("a"), record("b"))], Targets(e2e_s=1)).fairness == 1.0
    assert summary([run(record("a"), record("b", first_s=5.0))], Targets(e2e_s=1)).fairness == 0.5


def test_seeds_are_added_up_and_told_one_by_one():
    found = summary([run(record()), run(record(), record(), ended_s=30.0, seed=1)], NONE)

    assert found.duration_s == 40.0 and found.all.throughput.rps == pytest.approx(3 / 40)
    assert [(seed, own.throughput.rps) for seed, own in found.seeds] == [(0, 0.1), (1, pytest.approx(2 / 30))]


def test_a_model_that_only_another_seed_asks_is_counted_too():
    first = run(record("a"), rates={"a": 2.0}, alone={"a": ALONE["a"]})
    both = run(record("a"), record("b"), record("b"), seed=1, rates={"a": 1.0, "b": 2.0})
    found = summary([first, both], NONE)

    assert {model: own.demanded for model, own in found.models.items()} == {"a": 2, "b": 2}
    assert found.all.scaled[20] == found.all.attained == 1.0
    assert found.all.throughput.weighted_rps == pytest.approx((1.5 * 2 + 1.0 * 2) / 2.5 / 20)  # by the rates of the mean run
    assert summary([both, first], NONE).fairness == found.fairness == 1.0


def test_peaks_are_of_a_second_and_of_a_moment():
    records = record(at_s=0.0, first_s=0.5, gaps_s=(0.3, 0.3)), record(at_s=0.6, first_s=0.1, gaps_s=()), record(at_s=3.0)
    assert peak_requests(records) == 2
    assert peak_tokens(records) == 3


def test_nothing_at_all_has_no_times():
    found = summary([run(complete=False)], NONE)
    assert math.isnan(found.all.ttft.mean) and found.all.attained is None and not found.complete


@pytest.mark.parametrize(
    "changed, valid",
    [({}, True), ({"sent_s": 0.02}, False), ({"sent_s": 0.02, "first_s": 0.5}, True), ({"sent_s": 0.03, "first_s": 0.5}, False)],
    ids=["on time", "late", "late for a slow server", "too late for it"],
)
def test_a_client_that_fell_behind_makes_a_run_invalid(changed, valid):
    assert lag_of([run(*(record(**changed) for _ in range(100)))]).valid == valid


def test_a_loop_that_came_late_makes_a_run_invalid():
    assert not lag_of([run(record(), late_s=0.011), run(record())]).valid
    assert lag_of([run()]).valid


def test_a_run_of_a_killed_client_lasts_until_its_last_record():
    found = run(record(at_s=3.0), killed=True)
    assert found.duration_s == pytest.approx(3.4) and not found.complete


@pytest.mark.parametrize("field", ["ttft_s", "tpot_s", "e2e_s", "slo_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_a_target_is_over_zero(field, value):
    with pytest.raises(ConfigError, match=field):
        Targets(**{field: value})


def served(prompt: int, ttft_s: float, tpot_s: float = 0.01) -> Served:
    return Served(model="a", prompt_tokens=prompt, output_tokens=11, arrival_s=0.0, first_s=ttft_s, end_s=ttft_s + 10 * tpot_s)


def test_what_requests_take_alone_is_a_line_without_negative_parts():
    line = fitted([served(100, 0.2), served(200, 0.3), served(300, 0.4)])
    assert line is not None and (line.base_s, line.token_s, line.decode_s) == pytest.approx((0.1, 0.001, 0.01))
    falling = fitted([served(100, 0.4), served(200, 0.2)])
    assert falling is not None and (falling.base_s, falling.token_s) == pytest.approx((0.3, 0.0))
    steep = fitted([served(100, 0.01), served(200, 1.0)])
    assert steep is not None and steep.base_s == 0.0 and steep.token_s > 0
    same = fitted([served(100, 0.4), served(100, 0.2)])
    assert same is not None and (same.base_s, same.token_s) == pytest.approx((0.3, 0.0))
    assert fitted([]) is None


def test_requests_that_are_asked_alone_are_short_middling_and_long():
    load = Load(arrivals=[Arrival(0.0, "ab"[k % 2], k + 1, 5) for k in range(20)], window_s=1.0)
    chosen = asked_alone(load, 3)
    assert [arrival.prompt_tokens for _, arrival in chosen["a"]] == [1, 9, 19]
    assert all(load.arrivals[number] is arrival for own in chosen.values() for number, arrival in own)
    assert len(asked_alone(load, 1)["b"]) == 1
