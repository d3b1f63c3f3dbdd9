"""Further PJRT clients of a device, each with a stream and a pool of memory of its own, and memory that all of them see.

All that JAX calls private stands in this file; `open_lanes` tries it at the start.
"""

import logging
from typing import Any

import jax
import numpy as np
from jaxlib import xla_client

from muxjax.device.lanes import dlpack
from muxjax.device.lanes.cuda_memory import CudaMemory
from muxjax.engine.options import UnitOptions
from muxjax.errors import first_line
from muxjax.models.sharding import Devices

_log = logging.getLogger(__name__)

ALLOCATOR = "XLA_PYTHON_CLIENT_ALLOCATOR"
"""Variable that tells JAX how to take a GPU's memory."""


def open_lanes(options: UnitOptions) -> tuple[Devices, ...]:
    """The devices of each lane, which are the same device seen by other clients; the first lane has JAX's own.

    There is one lane, and a line in the log says why, where others cannot be had.
    """
    first = Devices.first(options.tensor_parallel_size)
    if options.most_lanes == 1 or (options.lanes is None and first.each[0].platform == "cpu"):
        return (first,)
    try:
        others = [seen_again(first.each[0], options.gpu_memory_fraction) for _ in range(options.most_lanes - 1)]
        for device in (first.each[0], *others):
            _check(device)
    except Exception as error:  # of whatever kind: what is private may be gone, or be otherwise
        _log.warning("all models run in one lane, in turns, for there can be no other: %s: %s", type(error).__name__, first_line(error))
        return (first,)
    return (first, *(Devices((device,)) for device in others))


def ordinal(device: jax.Device) -> int:
    """Number of a GPU among those that CUDA's driver sees."""
    return int(device.local_hardware_id or 0)


def import_memory(capsule: Any, device: jax.Device) -> jax.Array:
    """An array over memory that JAX has not allocated; steps that take it in donation leave it where it is.

    `jax.dlpack` takes a device of another client than JAX's own for one that needs a copy.
    """
    return xla_client._xla.dlpack_managed_tensor_to_buffer(capsule, device, None)  # pyright: ignore[reportPrivateImportUsage]


def seen_again(device: jax.Device, memory_fraction: float) -> jax.Device:
    """The same device as a new client sees it."""
    if device.platform == "cpu":
        client = xla_client.make_cpu_client()
    else:
        client = xla_client.make_c_api_client("cuda", gpu_options(memory_fraction), None)
    return next(twin for twin in client.devices() if twin.id == device.id)


def gpu_options(memory_fraction: float) -> dict[str, Any]:
    """Of a further client, which is made as JAX's own is told to be, but takes no memory before it needs it."""
    return {**xla_client.generate_pjrt_gpu_plugin_options(), "preallocate": False, "memory_fraction": memory_fraction}


def _check(device: jax.Device) -> None:
    """Memory can be imported, and is not copied on the way."""
    if device.platform == "cpu":  # whose lanes each have an arena of their own
        return
    memory = CudaMemory(4096, ordinal(device))
    export = dlpack.Export(memory.pointer, (1, 1024), np.dtype(np.float32), kind=dlpack.CUDA, index=ordinal(device))
    view = import_memory(export.capsule(), device)
    if view.unsafe_buffer_pointer() != memory.pointer:
        raise RuntimeError("memory is copied when it is imported")
    view.delete()
    memory.free()
