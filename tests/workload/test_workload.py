"""Traces are reproducible, and have the statistics they claim."""

import json
import re
from collections import Counter
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest

from muxjax.errors import ConfigError
from muxjax.workload.arrivals import Poisson
from muxjax.workload.lengths import Lengths, draw_log_normal, fixed, log_normal, of_trace
from muxjax.workload.trace import Arrival, Prefixes, Stream, capped, generate

TRACES = json.loads(resources.files("muxjax.workload").joinpath("data/lengths.json").read_text())["traces"]
STREAMS = [Stream(model=name, arrivals=Poisson(rate_rps=rate), lengths=of_trace("sharegpt")) for name, rate in (("a", 2.0), ("b", 8.0))]


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize("side", ["input", "output"])
def test_drawn_lengths_have_the_quantiles_of_their_trace(name, side):
    lengths = of_trace(name)
    drawn = (lengths.prompt if side == "input" else lengths.output).draw(40_000, np.random.default_rng(1))

    for percentile, tokens in TRACES[name][side]["quantiles"][:-1]:
        assert np.percentile(drawn, percentile) == pytest.approx(tokens, rel=0.06, abs=1)
    assert drawn.mean() == pytest.approx(TRACES[name][side]["mean"], rel=0.3)
    assert drawn.min() >= 1


def test_scaled_lengths_are_scaled():
    whole, half = of_trace("sharegpt"), of_trace("sharegpt", scale=0.5)

    assert half.output.mean_tokens == pytest.approx(whole.output.mean_tokens / 2)
    assert half.output.draw(20_000, np.random.default_rng(0)).mean() == pytest.approx(half.output.mean_tokens, rel=0.02)


def test_a_fixed_length_is_fixed():
    assert set(fixed(7).draw(100, np.random.default_rng(0))) == {7}


def test_a_distribution_without_ends_is_a_defect():
    with pytest.raises(AssertionError, match="0 and 100"):
        Lengths(percentiles=(5, 100), tokens=(1, 2))


def test_where_a_source_tells_no_maximum_its_last_quantile_is_the_longest():
    lengths = of_trace("servegen-deepseek-r1").output

    assert lengths.draw(20_000, np.random.default_rng(0)).max() == TRACES["servegen-deepseek-r1"]["output"]["quantiles"][-1][1]


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_not_over_zero_is_an_error(scale):
    with pytest.raises(ConfigError, match="scale must be over 0 and finite"):
        of_trace("sharegpt", scale=scale)


def test_an_unknown_trace_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"lengths must be one of sharegpt, .*, got 'nope'"):
        of_trace("nope")


def test_same_seed_same_trace():
    assert generate(STREAMS, 20.0, seed=3) == generate(STREAMS, 20.0, seed=3)
    assert generate(STREAMS, 20.0, seed=3) != generate(STREAMS, 20.0, seed=4)


def test_a_model_more_changes_nothing_for_the_others():
    both, alone = generate(STREAMS, 20.0, seed=3), generate(STREAMS[:1], 20.0, seed=3)

    assert [arrival for arrival in both if arrival.model == "a"] == alone


def test_a_trace_is_in_order_and_of_the_demanded_rates():
    trace = generate(STREAMS, 200.0, seed=0)

    assert [arrival.time_s for arrival in trace] == sorted(arrival.time_s for arrival in trace)
    assert sum(arrival.model == "b" for arrival in trace) == pytest.approx(1600, rel=0.1)


def test_capped_requests_fit_the_context():
    trace = [Arrival(0.0, "a", 90, 30), Arrival(1.0, "a", 200, 30), Arrival(2.0, "a", 10, 30)]

    assert [(arrival.prompt_tokens, arrival.output_tokens) for arrival in capped(trace, 100)] == [(90, 10), (99, 1), (10, 30)]


def test_a_capped_prompt_shares_no_more_than_it_has():
    long = Arrival(0.0, "a", 90, 30, "g", 64)

    assert [arrival.prefix_tokens for length in (100, 50) for arrival in capped([long], length)] == [64, 49]


def test_popular_prefixes_are_shared_most_and_never_exceed_the_prompt():
    stream = replace(STREAMS[1], prefixes=Prefixes(groups=4, tokens=100, alpha=1.0))
    trace = generate([stream], 1000.0, seed=0)
    groups = Counter(arrival.prefix_group for arrival in trace)

    for i in range(4):
        assert groups[str(i)] / len(trace) == pytest.approx(1 / (i + 1) / (1 + 1 / 2 + 1 / 3 + 1 / 4), rel=0.1)
    assert all(arrival.prefix_tokens == min(100, arrival.prompt_tokens) for arrival in trace)
    assert {arrival.prefix_tokens == 100 for arrival in trace} == {True, False}


def test_prefixes_change_nothing_else_of_a_trace():
    stream = replace(STREAMS[0], prefixes=Prefixes(groups=4, tokens=100))

    assert [arrival[:4] for arrival in generate([stream], 20.0, seed=0)] == [arrival[:4] for arrival in generate(STREAMS[:1], 20.0, seed=0)]


def test_times_are_whole_microseconds():
    assert all(arrival.time_s == round(arrival.time_s, 6) for arrival in generate(STREAMS, 20.0, seed=0))
    assert not all(time == round(time, 6) for time in Poisson(rate_rps=9.0).times(20.0, np.random.default_rng(0)))


@pytest.mark.parametrize(
    "streams, duration_s, seed, message",
    [
        (STREAMS, 0.0, 0, "duration_s must be over 0, to 1e9, got 0.0"),
        (STREAMS, float("nan"), 0, "duration_s must be over 0, to 1e9, got nan"),
        (STREAMS, 1.0, -1, "seed must be 0 or more, got -1"),
        (STREAMS + STREAMS[:1], 1.0, 0, "streams must be of one model each, got 'a'"),
    ],
)
def test_what_makes_no_trace_is_an_error(streams, duration_s, seed, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        generate(streams, duration_s, seed)


@pytest.mark.parametrize("field, value", [("groups", 0), ("tokens", 0), ("alpha", float("nan")), ("alpha", -1.0)])
def test_prefixes_out_of_their_limits_are_an_error(field, value):
    with pytest.raises(ConfigError, match=f"{field} must be"):
        Prefixes(**{"groups": 1, "tokens": 1, field: value})


def test_lognormal_lengths_have_their_mean_and_keep_within_their_bounds():
    drawn = draw_log_normal(100_000, 200, sigma=1.0, least=1, most=100_000, rng=np.random.default_rng(0))
    cut = draw_log_normal(100_000, 200, sigma=1.0, least=4, most=1024, rng=np.random.default_rng(0))

    assert drawn.mean() == pytest.approx(200, rel=0.02)
    assert np.log(drawn).std() == pytest.approx(1.0, rel=0.02)
    assert (cut.min(), cut.max()) == (4, 1024)
    assert (cut == drawn.clip(4, 1024)).all()


def test_quantiles_of_a_log_normal_are_those_of_what_is_drawn_from_it():
    rng = np.random.default_rng(0)
    by_quantiles = log_normal(200, sigma=1.0, least=4, most=1024).draw(100_000, rng)
    drawn = draw_log_normal(100_000, 200, sigma=1.0, least=4, most=1024, rng=rng)
    narrower = draw_log_normal(100_000, 200, sigma=0.95, least=4, most=1024, rng=rng)

    def furthest(other):
        return max(abs(np.percentile(by_quantiles, p) / np.percentile(other, p) - 1) for p in (25, 50, 75, 90))

    assert furthest(drawn) < 0.02 < furthest(narrower)
