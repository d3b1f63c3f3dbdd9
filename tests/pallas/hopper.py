"""Hopper without a GPU: kernels interpreted with race detection, and programs compiled for the H200 as far as machine code."""

import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jax
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, SingleDeviceSharding, use_abstract_mesh

TARGET = Path(__file__).with_name("h200_target.txtpb")
"""The chip as XLA describes it, printed by XLA on an H200."""

os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # JAX looks for a GPU when it loads the CUDA plugin

has_mosaic = jax.__version_info__ >= (0, 11)
needs_mosaic = pytest.mark.skipif(not has_mosaic, reason="Mosaic GPU kernels need JAX 0.11, and that Python 3.12")


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


needs_compiler = pytest.mark.skipif(
    not (has_mosaic and _has("jax_plugins.xla_cuda13") and _has("nvidia.cu13")),
    reason="compiling for the H200 needs JAX 0.11, jax-cuda13-plugin, jax-cuda13-pjrt, nvidia-cuda-nvcc and nvidia-nvvm",
)


class RaceError(AssertionError):
    """Two warpgroups or copies touch the same memory, one writing, and nothing orders them."""


def interpret(function: Callable, *args):
    """function(*args), its Mosaic GPU kernels interpreted on the CPU; the same function again is not traced again.

    Raises:
      RaceError: memory is raced for. Other errors of the interpreter pass: a barrier left in the middle, a read out of bounds.
    """
    from jax._src.pallas.mosaic_gpu.interpret import gpu_callbacks  # there is no public way to ask whether races were found
    from jax.experimental.pallas import mosaic_gpu as plgpu

    gpu_callbacks.reset_gpu_interpret_mode_state()  # of a kernel that failed before
    with _as_on_h200(), plgpu.force_gpu_interpret_mode(plgpu.InterpretGPUParams(detect_races=True)):
        out = jax.block_until_ready(jax.jit(function)(*args))
    if gpu_callbacks.get_races().races_found:
        raise RaceError("the interpreter found a race; it printed where")
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A program for the H200."""

    hlo: str
    temporaries_bytes: int
    ptxas: str
    """What the assembler says of the program's kernels: registers, spills, warnings."""

    @property
    def spilled_bytes(self) -> int:
        """Of all kernels."""
        spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", self.ptxas)
        assert spills, f"the assembler said nothing of spills: {self.ptxas!r}"
        return sum(int(number) for pair in spills for number in pair)

    def copies_of(self, *dims: int) -> list[str]:
        """Lines of HLO that copy an array of these dimensions."""
        shape = f"[{','.join(map(str, dims))}]"
        return [line for line in self.hlo.splitlines() if re.search(r"\bcopy(-start)?\(", line) and shape in line]


def compile_for_h200(
    function: Callable, *args: jax.ShapeDtypeStruct, donate: tuple[int, ...] = (), options: dict | None = None
) -> Compiled:
    """The program as the chip would get it, but for autotuning."""
    device = _h200()
    args = tuple(jax.ShapeDtypeStruct(arg.shape, arg.dtype, sharding=SingleDeviceSharding(device)) for arg in args)
    with _as_on_h200(), _cuda_tools(), _output_of_process() as said:
        compiled = jax.jit(lambda *args: function(*args), donate_argnums=donate).lower(*args).compile(compiler_options=options or {})
    memory = compiled.memory_analysis()
    return Compiled(hlo=compiled.as_text(), temporaries_bytes=memory.temp_size_in_bytes, ptxas=said())


def _h200() -> jax.Device:
    from jax.experimental import topologies

    jax.devices()  # loads the CUDA plugin
    name = "1x1x1"
    return topologies.get_topology_desc(platform="cuda", topology_name=name, topology=name, target_config=TARGET.read_text()).devices[0]


@contextmanager
def _as_on_h200() -> Iterator[None]:
    """Pallas asks the mesh which GPU this is."""
    h200 = AbstractDevice(device_kind="NVIDIA H200", num_cores=132, platform="gpu")
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=h200)):
        yield


@contextmanager
def _cuda_tools() -> Iterator[None]:
    """The assembler of the wheels is found, and reports."""
    import nvidia.cu13

    root = next(iter(nvidia.cu13.__path__))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{root}/bin", prepend=os.pathsep)
        patch.setenv("MOSAIC_GPU_CUDA_ROOT", root)
        patch.setenv("MOSAIC_GPU_DUMP_PTXAS", "1")
        yield


@contextmanager
def _output_of_process() -> Iterator[Callable[[], str]]:
    """What C++ prints: file descriptors 1 and 2, read by the yielded function after the block."""
    with tempfile.TemporaryFile() as file:
        kept = {number: os.dup(number) for number in (1, 2)}
        text = ""
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            for number in kept:
                os.dup2(file.fileno(), number)
            yield lambda: text
        finally:
            for number, original in kept.items():
                os.dup2(original, number)
                os.close(original)
            file.seek(0)
            text = file.read().decode(errors="replace")
            sys.stderr.write(text)
