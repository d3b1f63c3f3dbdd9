"""The memory plan of a device."""

from dataclasses import replace

import pytest

from muxjax.device import memory
from muxjax.device.lanes.clients import ALLOCATOR
from muxjax.device.memory import MemoryPlan, require_memory
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError
from muxjax.models.sharding import Devices

GIB = 2**30


def make_plan(**changes) -> MemoryPlan:
    sizes = {"limit_bytes": 100 * GIB, "resident_bytes": {"a": 16 * GIB, "b": 3 * GIB}, "arena_bytes": 80 * GIB, "temporary_bytes": GIB}
    return MemoryPlan(**(sizes | changes))


def test_a_plan_to_the_last_byte_is_taken_and_a_byte_more_is_refused():
    assert make_plan().used_bytes == 100 * GIB
    for name in ("arena_bytes", "temporary_bytes"):
        with pytest.raises(ConfigError, match="100 GiB that muxjax may use: lower max_num_batched_tokens"):
            make_plan(**{name: getattr(make_plan(), name) + 1})


def test_the_error_tells_what_the_steps_need_and_what_is_left():
    with pytest.raises(ConfigError, match=r"steps need 4 GiB while they run, and 99 GiB of weights and cache leave 1 GiB of"):
        make_plan(temporary_bytes=4 * GIB)


def test_a_device_without_a_limit_takes_any_plan():
    (line,) = make_plan(limit_bytes=None, arena_bytes=900 * GIB).lines()

    assert line == "memory: a 16 GiB, b 3 GiB; cache 900 GiB; a step's own 1 GiB; no limit"


def test_the_report_tells_what_is_free():
    (line,) = make_plan(arena_bytes=70 * GIB).lines()

    assert line.endswith("; 10 GiB free")


def test_weights_on_different_devices_need_not_fit_on_one(tmp_path):
    two = Devices.first(2)
    options = UnitOptions(models=(ModelOptions(name="m", path=tmp_path),), tensor_parallel_size=2, memory_bytes=10 * GIB)
    apart = {"both": (two, 3 * GIB), "first": (two.at([0]), 6 * GIB), "second": (two.at([1]), 7 * GIB)}
    require_memory(options, two, apart)
    with pytest.raises(ConfigError, match="11 GiB of weights and tables are more than the 10 GiB"):
        require_memory(options, two, apart | {"second": (two.at([0]), 2 * GIB)})


def test_the_report_tells_where_devices_are_not_alike():
    (line,) = make_plan(devices=2, alike=False).lines()

    assert line.startswith("memory of the fullest of 2 devices: a 16 GiB, b 3 GiB;")


class Gpu:
    """What CUDA's own pool tells of itself."""

    platform, local_hardware_id = "gpu", 3

    def memory_stats(self) -> dict[str, int]:
        return {"bytes_limit": 0, "bytes_in_use": 5 * GIB}


def test_an_allocator_without_a_limit_is_held_to_its_share_of_the_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "total_bytes", lambda ordinal: {3: 140 * GIB}[ordinal])
    options = UnitOptions(models=(ModelOptions(name="m", path=tmp_path),), gpu_memory_fraction=0.5)
    assert memory.limit_bytes(options, Gpu()) == 70 * GIB
    assert memory.limit_bytes(replace(options, memory_bytes=GIB), Gpu()) == GIB


@pytest.mark.parametrize(("models", "asked", "taken"), [(4, {}, None), (5, {}, "cuda_async"), (5, {ALLOCATOR: "bfc"}, "bfc")])
def test_models_that_share_lanes_take_memory_that_lanes_leave_each_other(monkeypatch, tmp_path, models, asked, taken):
    monkeypatch.setattr(memory.os, "environ", dict(asked))
    memory.claim(UnitOptions(models=tuple(ModelOptions(name=f"m{i}", path=tmp_path) for i in range(models))))
    assert memory.os.environ.get(ALLOCATOR) == taken
