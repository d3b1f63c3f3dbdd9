from pathlib import Path

import pytest

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError


def model(name: str) -> ModelOptions:
    return ModelOptions(name=name, path=Path("/none"))


def unit(names: str, **fields) -> UnitOptions:
    return UnitOptions(models=tuple(map(model, names)), **fields)


def test_there_are_never_more_lanes_than_models():
    three = unit("abc", lanes=3, sm_shares=(64,))
    assert three.without("b") == unit("ac", lanes=2, sm_shares=(64,))
    assert three.without("b").without("c") == unit("a", lanes=1)
    assert three.plus(model("d")) == unit("abcd", lanes=3, sm_shares=(64,))


def test_lanes_that_nobody_named_stay_so():
    assert unit("ab", sm_shares=(64,)).without("a") == unit("b")
    assert unit("a").plus(model("b")) == unit("ab")


def test_several_devices_have_one_lane():
    assert unit("ab", lanes=2, sm_shares=(64,)).serving([model("a"), model("b")], devices=2) == unit("ab", tensor_parallel_size=2)


def test_a_unit_has_a_model():
    with pytest.raises(ConfigError, match="models must be at least one"):
        unit("a").without("a")
