"""Models that hold some of their unit's devices."""

from pathlib import Path

import pytest

from muxjax.device.lanes.lane import Lane
from muxjax.device.model import DeviceModel
from muxjax.engine.options import UnitOptions
from muxjax.errors import ConfigError
from muxjax.launch.build import Built
from tests.launch.kit import answers, options_of, served, write_model

HELD = {"both": None, "first": (0,), "second": (1,)}
"""Devices by model."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def alone(folder) -> list[int | None]:
    """The answer of the model, which has the same weights under every name, on one device."""
    with served(folder, {"m": None}) as (built, said):
        return answers(built, said, ["m"])["m"]


def lane_of(built: Built) -> Lane:
    (lane,) = built.lifecycle._devices._executor.lanes  # pyright: ignore[reportAttributeAccessIssue]
    return lane


def places(model: DeviceModel) -> set[int]:
    """Where its weights and tables are."""
    return {device.id for array in model._arrays() for device in array.devices()}


def test_models_on_some_of_the_devices_answer_as_each_alone_beside_one_on_all(folder, alone, tmp_path):
    """Every block of a prompt is written and read where its model is, also when programs come from the store, of another start."""
    for _ in range(2):
        with served(folder, HELD, tp=2, cache=tmp_path) as (built, said):
            for _ in range(3):
                assert answers(built, said, list(HELD)) == dict.fromkeys(HELD, alone)
            models = lane_of(built).models
            assert {name: places(model) for name, model in models.items()} == {"both": {0, 1}, "first": {0}, "second": {1}}
            assert models["both"].layout.kv_heads * 2 == models["second"].layout.kv_heads
            pools = lane_of(built).pools.by_device
            assert {device.id: pool.nbytes for device, pool in pools.items()} == {0: 2**20, 1: 2**20}
            assert [line.rpartition(", ")[2] for line in built.report[1:3]] == ["on device 0 of 2", "on device 1 of 2"]
            assert built.report[-1].startswith("memory of the fullest of 2 devices: both ")
            stats = built.engine.stats()
            assert stats.free_blocks == stats.total_blocks


def test_a_model_comes_to_some_of_the_devices_sleeps_wakes_and_goes(folder, alone):
    with served(folder, {"both": None}, tp=2) as (built, said):
        built.lifecycle.load(options_of("second", folder, (1,)))
        assert places(lane_of(built).models["second"]) == {1}
        assert answers(built, said, ["both", "second"]) == {"both": alone, "second": alone}
        built.lifecycle.sleep("second", timeout_s=60)
        built.lifecycle.wake("second")
        assert places(lane_of(built).models["second"]) == {1}
        assert answers(built, said, ["both", "second"]) == {"both": alone, "second": alone}
        with pytest.raises(ConfigError, match=r"devices must be below tensor_parallel_size=2 for third, got \[2\]"):
            built.lifecycle.load(options_of("third", folder, (2,)))
        built.lifecycle.remove("second", timeout_s=60)
        assert set(lane_of(built).models) == {"both"}


def test_a_models_devices_are_those_of_its_unit_in_order(folder):
    for wrong in ((), (1, 0), (1, 1), (-1, 0)):
        with pytest.raises(ConfigError, match="devices must be numbers of the unit's devices from 0, in order, each once"):
            options_of("m", folder, wrong)
    with pytest.raises(ConfigError, match=r"devices must be below tensor_parallel_size=2 for m, got \[1, 2\]"):
        UnitOptions(models=(options_of("m", folder, (1, 2)),), tensor_parallel_size=2)
