"""Presets have the rates, shapes and lengths of their sources, and give the same trace on every machine."""

import hashlib
import json
from collections import Counter

import numpy as np
import pytest

from muxjax.errors import ConfigError
from muxjax.specs import published
from muxjax.workload import presets
from muxjax.workload.popularity import arena_27, lmsys_16, power_law

EVERY = tuple(name.replace("-N", "-19") for name in presets.NAMES)


def digest(trace) -> str:
    return hashlib.sha256(json.dumps(trace).encode()).hexdigest()[:16]


HELD = {
    "lmsys-16": "da776a8bddcfcdbc",
    "powerlaw-19": "8b8d7ff087f9a9c7",
    "arena-27": "8ad8c18f87fe3f79",
    "azure-mix": "c5491e256bba331e",
    "agent-prefix": "50644a0a8afc108d",
    "reasoning": "498d712f969a2e3a",
    "burst": "84b2eaa9b32c769a",
    "llama-trio": "0024406744f08506",
}


@pytest.mark.parametrize("name", EVERY)
def test_the_traces_are_those_of_the_day_they_were_committed(name):
    assert digest(presets.by_name(name).trace(120.0, seed=1)) == HELD[name]


def test_a_microsecond_more_would_be_noticed():
    first, *rest = presets.by_name("burst").trace(120.0, seed=1)

    assert digest([first, *rest]) == HELD["burst"]
    assert digest([first._replace(time_s=first.time_s + 1e-6), *rest]) != HELD["burst"]


def test_the_first_requests_can_be_read():
    assert presets.by_name("agent-prefix").trace(120.0, seed=1)[:2] == [
        (1.113752, "agent-0", 4133, 87, "21", 2048),
        (1.174747, "agent-0", 8632, 451, "0", 2048),
    ]


@pytest.mark.parametrize("name", EVERY)
def test_a_preset_keeps_its_rates_whatever_their_scale(name):
    whole, half = presets.by_name(name), presets.by_name(name, rate_scale=0.5)

    assert half.rates == pytest.approx({model: rate / 2 for model, rate in whole.rates.items()})
    assert half.name == whole.name == name
    assert [type(stream.arrivals) for stream in half.streams] == [type(stream.arrivals) for stream in whole.streams]


@pytest.mark.parametrize("name", ["lmsys-16", "powerlaw-19", "arena-27", "agent-prefix", "reasoning", "llama-trio"])
def test_a_trace_has_the_demanded_rates(name):
    workload = presets.by_name(name)
    found = Counter(arrival.model for arrival in workload.trace(1000.0, seed=0))

    for model, rate in workload.rates.items():
        assert found[model] == pytest.approx(1000 * rate, abs=5 * (1000 * rate) ** 0.5)


@pytest.mark.parametrize("name", EVERY)
def test_shapes_are_published_ones_and_models_are_named_once(name):
    streams = presets.by_name(name).streams

    assert {stream.shape for stream in streams} - {None} <= set(published.BY_NAME)
    assert len({stream.model for stream in streams}) == len(streams)


def test_the_shapes_of_the_paper_are_in_its_numbers_smallest_first():
    listed = {name: [stream.shape for stream in presets.by_name(name).streams] for name in ("powerlaw-19", "lmsys-16")}

    assert listed["powerlaw-19"] == ["llama-7b"] * 12 + ["llama-13b"] * 4 + ["llama-30b"] * 2 + ["llama-65b"]
    assert Counter(listed["lmsys-16"]) == {"llama-7b": 4, "llama-13b": 6, "llama-30b": 3, "llama-65b": 3}
    assert [stream.shape for stream in presets.powerlaw(38).streams] == [shape for shape in listed["powerlaw-19"] for _ in range(2)]


def test_rates_of_public_traces_are_theirs():
    assert (len(arena_27()), sum(arena_27())) == (27, pytest.approx(2.5))
    assert arena_27()[0] / sum(arena_27()) == pytest.approx(0.197, rel=0.01)
    assert np.mean(lmsys_16()) == pytest.approx(11.9, abs=0.05)  # the highest average rate of the paper's table
    assert lmsys_16() == sorted(lmsys_16(), reverse=True)


def test_code_completion_is_as_clumped_as_its_trace():
    code = presets.by_name("azure-mix").streams[1].arrivals

    assert code.cv == pytest.approx(13.2)
    assert code.peak_rps * 60 == pytest.approx(632)


def test_reasoning_is_long_and_agents_share():
    outputs = {name: np.mean([one.output_tokens for one in presets.by_name(name).trace(600.0, seed=0)]) for name in ("reasoning", "burst")}
    agents = presets.by_name("agent-prefix").trace(600.0, seed=0)

    assert outputs["reasoning"] > 4 * outputs["burst"]
    assert len({one.prefix_group for one in agents}) > 40
    assert all(0 < one.prefix_tokens <= one.prompt_tokens for one in agents)


def test_power_law_rates_fall_from_the_top():
    assert power_law(3, 1.0, 12.0) == [12.0, 6.0, 4.0]
    assert power_law(3, 0.0, 12.0) == [12.0] * 3


@pytest.mark.parametrize(
    "models, alpha, top, field", [(0, 1, 1, "models"), (1, float("nan"), 1, "alpha"), (1, -1, 1, "alpha"), (1, 1, 0, "top_rps")]
)
def test_a_power_law_out_of_its_limits_is_an_error(models, alpha, top, field):
    with pytest.raises(ConfigError, match=f"{field} must be"):
        power_law(models, alpha, top)


@pytest.mark.parametrize("name", ["nope", "powerlaw", "powerlaw-", "powerlaw-x", "powerlaw--1", "powerlaw-19 ", ""])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(name):
    with pytest.raises(ConfigError, match=r"workload must be one of lmsys-16, powerlaw-N, .*, burst, llama-trio \(N models\), got"):
        presets.by_name(name)


def test_no_models_and_no_rate_are_errors():
    with pytest.raises(ConfigError, match="models must be 1 or more, got 0"):
        presets.by_name("powerlaw-0")
    for scale in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="rate_scale must be over 0 and finite"):
            presets.by_name("burst", rate_scale=scale)
