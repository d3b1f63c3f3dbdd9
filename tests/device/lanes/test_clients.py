"""A second client of a device, and memory that we have allocated, as JAX sees them."""

import mmap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.device.lanes import clients, dlpack
from muxjax.device.lanes.clients import import_memory, open_lanes
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError

ROWS, WIDTH = 8, 16


def options(models: int, folder, **changes) -> UnitOptions:
    return UnitOptions(models=tuple(ModelOptions(name=str(i), path=folder) for i in range(models)), **changes)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, jnp.bfloat16])
def test_memory_of_ours_is_seen_where_it_is(dtype, tmp_path):
    memory = mmap.mmap(-1, ROWS * WIDTH * np.dtype(dtype).itemsize)  # a page's beginning: XLA copies what is less aligned
    ours = np.frombuffer(memory, dtype).reshape(ROWS, WIDTH)
    ours[3, 5] = 7
    export = dlpack.Export(ours.ctypes.data, ours.shape, ours.dtype, kind=dlpack.CPU, index=0)
    for device in [lane.each[0] for lane in open_lanes(options(2, tmp_path, lanes=2))]:
        view = import_memory(export.capsule(), device)
        assert view.unsafe_buffer_pointer() == ours.ctypes.data and view.devices() == {device}
        assert (view.shape, view.dtype, float(view[3, 5]), float(view.sum())) == ((ROWS, WIDTH), dtype, 7, 7)


def test_every_lane_sees_the_same_device_through_a_client_of_its_own(tmp_path):
    devices = [lane.each[0] for lane in open_lanes(options(3, tmp_path, lanes=3))]
    assert devices[0] is jax.devices()[0]
    assert len({id(device.client) for device in devices}) == 3 and {device.id for device in devices} == {devices[0].id}


def test_where_no_other_client_can_be_made_there_is_one_lane_and_a_line_that_says_why(tmp_path, monkeypatch, caplog):
    def no_client(*_):
        raise RuntimeError("the driver is too old\nand so on")

    monkeypatch.setattr(clients, "seen_again", no_client)
    assert len(open_lanes(options(2, tmp_path, lanes=2))) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "all models run in one lane, in turns, for there can be no other: RuntimeError: the driver is too old"
    ]


@pytest.mark.parametrize(
    ("changes", "error"), [({"lanes": 3}, "1 to the number of models, 2"), ({"lanes": 2, "tensor_parallel_size": 2}, "1 where")]
)
def test_lanes_that_cannot_be_are_refused(changes, error, tmp_path):
    with pytest.raises(ConfigError, match=error) as refusal:
        options(2, tmp_path, **changes)
    assert refusal.value.field == "lanes"


def test_further_clients_are_made_as_jaxs_own_is_told_to_be_but_take_no_memory_beforehand(monkeypatch):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_ALLOCATOR", "CUDA_ASYNC")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_USE_TFRT_GPU_CLIENT", "1")
    options = clients.gpu_options(0.9)
    told = {"platform_name": "cuda", "allocator": "cuda_async", "preallocate": False, "memory_fraction": 0.9, "use_tfrt_gpu_client": True}
    assert options == {**options, **told}
