"""Hopper without a GPU: kernels interpreted with race detection, and programs compiled for the H200 as far as machine code."""

import functools
import importlib.util
import math
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jax
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, SingleDeviceSharding, use_abstract_mesh

import muxjax
from muxjax.device.programs.sources import Source, untuned
from muxjax.models.sharding import Devices

TARGET = Path(muxjax.__file__).parent / "device/programs/h200.txtpb"
"""The chip as XLA describes it, printed by XLA on an H200."""

PTXAS = Path(__file__).with_name("ptxas_with_notes.sh")

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
    try:
        with as_on_h200(), plgpu.force_gpu_interpret_mode(plgpu.InterpretGPUParams(detect_races=True)):
            out = jax.block_until_ready(jax.jit(function)(*args))
    except jax.errors.JaxRuntimeError as error:  # JAX 0.12 stops the kernel at a race, where 0.11 prints it and goes on
        if "RACE DETECTED" not in str(error):
            raise
        raise RaceError(str(error)) from error
    if gpu_callbacks.get_races().races_found:
        raise RaceError("the interpreter found a race; it printed where")
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A program for the H200."""

    hlo: str
    temporaries_bytes: int
    aliased_bytes: int
    """Of results that take the memory of donated arguments."""
    ptxas: str
    """What the assembler says of the program's kernels, XLA's own included: registers, spills, warnings."""

    @property
    def spilled_bytes(self) -> int:
        """Of all kernels."""
        return sum(self.spills.values())

    @property
    def spills(self) -> dict[str, int]:
        """Kernels that run out of registers, and the bytes they store and load for it."""
        said = re.findall(r"properties for (\w+)\n.* (\d+) bytes spill stores, (\d+) bytes spill loads", self.ptxas)
        assert said, f"the assembler said nothing of spills: {self.ptxas!r}"
        spilled = Counter()
        for kernel, stored, loaded in said:
            spilled[kernel] += int(stored) + int(loaded)
        return dict(+spilled)

    def copies_of(self, *dims: int) -> list[str]:
        """Lines of HLO that copy an array of as many elements, whatever its shape."""
        lines = (line for line in self.hlo.splitlines() if re.search(r"\bcopy(-start)?\(", line))
        return [line for line in lines if any(math.prod(shape) == math.prod(dims) for shape in _results(line))]

    def written(self, *, elements: int) -> Iterator[tuple[tuple[int, ...], str]]:
        """Dimensions of each array of at least so many elements that a kernel writes, and its line of HLO."""
        fused = set(re.findall(r" fusion\(.* calls=%([\w.-]+)", self.hlo))
        for name, body in re.findall(r"^(?:ENTRY )?%([\w.-]+) \(.*\{\n((?:  .*\n)*)\}", self.hlo, re.MULTILINE):
            for line in () if name in fused else body.splitlines():
                if not re.search(rf" ({PASSED_ON})\(", line):
                    yield from ((shape, line) for shape in _results(line) if math.prod(shape) >= elements)


PASSED_ON = "parameter|get-tuple-element|tuple|bitcast|call|while|conditional"
"""Operations that write nothing: their results lie where their arguments do, or where other lines of HLO have written them."""


def _results(line: str) -> list[tuple[int, ...]]:
    """Dimensions of the arrays that a line of HLO makes; s8 is a library's workspace."""
    made = re.search(r" = (\(.*?\)|\S+) [\w-]+\(", line)
    return [tuple(map(int, dims.split(","))) for dims in re.findall(r"\b(?!s8)\w+\[([\d,]+)\]", made[1])] if made else []


AS_SERVED = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
"""XLA's own defaults, which tests on the CPU change (tests/conftest.py)."""


def compile_for_h200(
    function: Callable, *args: jax.ShapeDtypeStruct, donate: tuple[int, ...] = (), options: dict | None = None
) -> Compiled:
    """The program as the chip would get it, but for autotuning."""
    jitted = jax.jit(lambda *args: function(*args), donate_argnums=donate)
    return compiled_for_h200(lambda: jitted.lower(*on_h200(args)).compile(compiler_options=AS_SERVED | (options or {})))


def compiled_for_h200(compile_it: Callable[[], jax.stages.Compiled]) -> Compiled:
    """What comes of compiling for arguments that lie `on_h200`."""
    with as_on_h200(), _cuda_tools(), tempfile.TemporaryDirectory() as notes, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTXAS_NOTES", notes)
        compiled = compile_it()
        ptxas = "".join(note.read_text() for note in Path(notes).iterdir())
    memory = compiled.memory_analysis()
    return Compiled(
        hlo=compiled.as_text(), temporaries_bytes=memory.temp_size_in_bytes, aliased_bytes=memory.alias_size_in_bytes, ptxas=ptxas
    )


def program_for_h200(source: Source, devices: int = 1) -> Compiled:
    """The program of a source, by products that need no tuning."""
    plain = untuned(source)
    return compiled_for_h200(lambda: plain.lower(Devices(h200s(devices))).compile(compiler_options=AS_SERVED | plain.options("gpu")))


def on_h200(shapes):
    """The same tree of `jax.ShapeDtypeStruct`, placed on the chip."""
    sharding = SingleDeviceSharding(h200s(1)[0])
    return jax.tree.map(lambda shape: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding), shapes)


@functools.cache
def h200s(count: int) -> tuple[jax.Device, ...]:
    """Chips of one host, to compile for."""
    from jax.experimental import topologies

    jax.devices()  # loads the CUDA plugin
    name = f"1x1x{count}"
    return tuple(topologies.get_topology_desc(platform="cuda", topology_name=name, topology=name, target_config=TARGET.read_text()).devices)


@contextmanager
def as_on_h200() -> Iterator[None]:
    """Pallas asks the mesh which GPU this is."""
    h200 = AbstractDevice(device_kind="NVIDIA H200", num_cores=132, platform="gpu")
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=h200)):
        yield


@contextmanager
def _cuda_tools() -> Iterator[None]:
    """XLA and Mosaic find the wheels' tools, and an assembler that keeps what it says."""
    root = _cuda_root().name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jax._src.lib.cuda_path", root)
        patch.setenv("MOSAIC_GPU_CUDA_ROOT", root)
        patch.setenv("PATH", f"{root}/bin", prepend=os.pathsep)
        patch.setenv("PTXAS", str(_wheels() / "bin/ptxas"))
        yield


@functools.cache
def _cuda_root() -> tempfile.TemporaryDirectory:
    """One for the whole process, since XLA looks for its tools once."""
    folder = tempfile.TemporaryDirectory(prefix="muxjax-cuda-")
    root = Path(folder.name)
    (root / "nvvm").symlink_to(_wheels() / "nvvm")
    (root / "bin").mkdir()
    (root / "bin/nvlink").symlink_to(_wheels() / "bin/nvlink")
    (root / "bin/ptxas").symlink_to(PTXAS)
    return folder


def _wheels() -> Path:
    import nvidia.cu13

    return Path(next(iter(nvidia.cu13.__path__)))
