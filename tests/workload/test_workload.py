"""Traces are reproducible, and have the statistics they claim."""

import json
from importlib import resources

import numpy as np
import pytest

from muxjax.errors import ConfigError
from muxjax.workload.arrivals import poisson, power_law
from muxjax.workload.lengths import Lengths, fixed, lognormal, of_trace
from muxjax.workload.trace import Arrival, Stream, capped, generate

TRACES = json.loads(resources.files("muxjax.workload").joinpath("data/lengths.json").read_text())["traces"]
STREAMS = [Stream(model=name, rate_rps=rate, lengths=of_trace("sharegpt")) for name, rate in (("a", 2.0), ("b", 8.0))]


def test_poisson_gaps_are_exponential():
    times = poisson(50.0, 400.0, np.random.default_rng(0))
    gaps = np.diff(times)

    assert len(times) == pytest.approx(20_000, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.03)
    assert (gaps >= 0).all()
    assert times[-1] < 400


def test_evenly_spaced_arrivals_would_be_noticed():
    gaps = np.diff(np.linspace(0, 400, 20_000))

    assert gaps.std() / gaps.mean() != pytest.approx(1.0, abs=0.03)


def test_power_law_rates_fall_from_the_top():
    assert power_law(3, 1.0, 12.0) == [12.0, 6.0, 4.0]
    assert power_law(3, 0.0, 12.0) == [12.0] * 3


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize("side", ["input", "output"])
def test_drawn_lengths_have_the_quantiles_of_their_trace(name, side):
    lengths = of_trace(name)
    drawn = (lengths.prompt if side == "input" else lengths.output).draw(40_000, np.random.default_rng(1))

    for percentile, tokens in TRACES[name][side]["quantiles"][:-1]:
        assert np.percentile(drawn, percentile) == pytest.approx(tokens, rel=0.06, abs=1)
    assert drawn.mean() == pytest.approx(TRACES[name][side]["mean"], rel=0.25)
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


def test_lognormal_lengths_have_their_mean_and_keep_within_their_bounds():
    drawn = lognormal(100_000, 200, sigma=1.0, least=1, most=100_000, rng=np.random.default_rng(0))
    cut = lognormal(100_000, 200, sigma=1.0, least=4, most=1024, rng=np.random.default_rng(0))

    assert drawn.mean() == pytest.approx(200, rel=0.02)
    assert np.log(drawn).std() == pytest.approx(1.0, rel=0.02)
    assert (cut.min(), cut.max()) == (4, 1024)
    assert (cut == drawn.clip(4, 1024)).all()
