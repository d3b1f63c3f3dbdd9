"""Models that hold some of their unit's devices."""

import contextlib
import json
import queue
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from muxjax.device.lanes.lane import Lane
from muxjax.device.model import DeviceModel
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError
from muxjax.launch.build import Built, build
from muxjax.specs.config import to_hf_config
from tests.device.test_step import SPEC
from tests.launch.test_lanes import answers
from tests.programs import only_essential_programs
from tests.xla_cache import XLA_CACHE

HELD = {"both": None, "first": (0,), "second": (1,)}
"""Devices by model."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    folder.joinpath("config.json").write_text(json.dumps(to_hf_config(replace(SPEC, windows=(None, None)))))
    return folder


def options_of(name: str, folder: Path, devices: tuple[int, ...] | None) -> ModelOptions:
    return ModelOptions(name=name, path=folder, load_format="dummy", dtype="float32", max_num_seqs=4, devices=devices)


@contextlib.contextmanager
def served(folder: Path, held: dict[str, tuple[int, ...] | None], tp: int, cache: Path = XLA_CACHE) -> Iterator[tuple]:
    options = UnitOptions(
        models=tuple(options_of(name, folder, devices) for name, devices in held.items()),
        tensor_parallel_size=tp,
        lanes=1,
        max_num_batched_tokens=32,
        kv_cache_bytes=2**20,
        compilation_cache_dir=str(cache),
    )
    with only_essential_programs():
        built, said = build(options, report=lambda line: None, progress=False), queue.SimpleQueue()
    built.engine.start(said.put)
    try:
        yield built, said
    finally:
        built.engine.stop()


@pytest.fixture(scope="module")
def alone(folder) -> list[int | None]:
    """The answer of the model, which has the same weights under every name, on one device."""
    with served(folder, {"m": None}, 1) as (built, said):
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
        with served(folder, HELD, 2, tmp_path) as (built, said):
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
    with served(folder, {"both": None}, 2) as (built, said):
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
