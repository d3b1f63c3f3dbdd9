"""What a process does that compiles (`compile_process`), for a GPU without one or for the CPU: what it makes is left in a store.

It reads a `Setup`, then sources and the numbers of their devices, from standard input, each pair as a pickle behind its length, and
answers each with a line: empty, or what went wrong. Tracing holds a process's interpreter for seconds, so it happens in processes
that nobody waits for.
"""

import os
import pickle
import struct
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import jax

from muxjax.device.programs.compiler import Compiler
from muxjax.device.programs.sources import Source, program_name
from muxjax.device.programs.store import ProgramStore, without_jax_cache
from muxjax.device.programs.target import Target
from muxjax.models.sharding import Devices

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a worker compiles for, and where to.

    Args:
      target: None for the CPU.
      devices: of the unit.
      folder, environment: of the store.
      tuning: see `Compiler`.
      niceness: that the process has from its first line, added to that of the one that started it.
    """

    target: Target | None
    devices: int
    folder: Path
    environment: str
    tuning: Path | None
    niceness: int


def send(stream: IO[bytes], value: object) -> None:
    """Writes a value for `receive`."""
    content = pickle.dumps(value)
    stream.write(_LENGTH.pack(len(content)) + content)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """The next value; None at the end."""
    head = stream.read(_LENGTH.size)
    return pickle.loads(stream.read(*_LENGTH.unpack(head))) if len(head) == _LENGTH.size else None


def main() -> None:
    """Compiles until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed must not be taken for an answer
    setup: Setup = receive(sys.stdin.buffer)
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"  # the plugin looks for a GPU otherwise, and takes memory of it
    jax.config.update("jax_platforms", "cpu")
    without_jax_cache()
    store, target = ProgramStore(setup.folder, setup.environment), setup.target
    devices = target.devices(setup.devices) if target else Devices.first(setup.devices)
    compiler = Compiler(devices=devices, mesh=target.mesh if target else None, tuning=setup.tuning)
    while (wanted := receive(sys.stdin.buffer)) is not None:
        source, places = wanted
        answers.write(_outcome(source, places, compiler, store).encode() + b"\n")
        answers.flush()
        jax.clear_caches()  # what was traced and compiled for one program, some 40 MB of a GPU's, serves no other


def _outcome(source: Source, places: tuple[int, ...], compiler: Compiler, store: ProgramStore) -> str:
    """What went wrong, in a line; "" where nothing did."""
    try:
        made_of, program = replace(compiler, devices=compiler.devices.at(places)).compile(source)
        store.keep(program_name(made_of, places), program)
    except Exception as error:  # told to who asked
        return f"{type(error).__name__}: {error}".replace("\n", " ")[:2000]
    return ""
