"""Problems whose requests were measured."""

from dataclasses import replace

import pytest

from muxjax.errors import ConfigError
from muxjax.placement.problem import Cluster, Load, Problem, with_loads
from tests.placement.toy import CHIP, demand

PROBLEM = Problem(demands=(demand("a", 300, 9.0), demand("b", 300, 90.0)), cluster=Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=4))


def test_measured_loads_take_the_place_of_what_was_asked_for():
    a, b = PROBLEM.demands
    found = with_loads(PROBLEM, {"b": Load(rate_rps=5.0, output_tokens=20.0)})

    assert found == replace(PROBLEM, demands=(a, replace(b, rate_rps=5.0, output_tokens=20.0)))
    assert with_loads(PROBLEM, {}) == PROBLEM


def test_loads_of_no_model_or_outside_their_range_are_refused():
    with pytest.raises(ConfigError, match="model must be one of a, b, got 'c'"):
        with_loads(PROBLEM, {"c": Load(rate_rps=1.0)})
    with pytest.raises(ConfigError, match=r"models\.a\.rate_rps must be over 0"):
        with_loads(PROBLEM, {"a": Load(rate_rps=0.0)})


def test_a_mean_request_beyond_the_context_is_known():
    a, b = PROBLEM.demands

    assert replace(PROBLEM, demands=(replace(a, output_tokens=60.0), b)).cut == ["a"]
    with pytest.raises(ConfigError, match=r"models\.b\.prompt_tokens must be below the model's context of 64 tokens, got 64"):
        replace(b, prompt_tokens=64.0)
