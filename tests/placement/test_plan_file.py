"""Placement files that somebody has edited."""

import json
from typing import Any

import pytest

from muxjax.errors import ConfigError
from muxjax.placement.plan_file import as_json, of_json
from muxjax.placement.problem import Placed, Placement, UnitPlan

PLACEMENT = Placement(units=(UnitPlan(devices=1, members=(Placed(model="a", rate_rps=1.0, devices=(0,)),)),), chips=("H200",))


def written() -> dict[str, Any]:
    return json.loads(json.dumps(as_json(PLACEMENT)))


def test_what_was_written_is_read_whatever_is_told_beside_it():
    assert of_json(written() | {"places": [], "growth": 2.0}, "file") == PLACEMENT


@pytest.mark.parametrize("of_unit, key, where", [(True, "frist_device", r"units\.0"), (False, "wieghts", r"units\.0\.members\.0")])
def test_a_key_that_is_misspelled_is_refused(of_unit, key, where):
    edited = written()
    unit = edited["units"][0]
    (unit if of_unit else unit["members"][0])[key] = 1
    with pytest.raises(ConfigError, match=f"file: {where}: '{key}' is no known key, which are "):
        of_json(edited, "file")
