"""XLA's choices of kernels for matrix products: made once on a chip by trying them, then read wherever programs are compiled for it."""

import logging
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from muxjax.device.programs.compiler import Compiler
from muxjax.device.programs.sources import Source, StepSource
from muxjax.device.programs.store import ProgramStore

_log = logging.getLogger(__name__)
_SHIPPED = {"NVIDIA H200": "tuned-h200.zip"}
"""Choices that come with the package, by JAX's name of the chip: for the products of LLaMA 3's 8B, 3B and 1B."""


def folder(programs: Path, device_kind: str) -> Path | None:
    """The folder of choices beside a folder of programs, those that come with the package among them; None if it cannot be made."""
    choices = programs / "tuning"
    try:
        choices.mkdir(parents=True, exist_ok=True)
        if device_kind in _SHIPPED:
            _unpack(Path(__file__).with_name(_SHIPPED[device_kind]), choices)
    except OSError as error:
        _log.warning("products are not tuned: %s cannot be written to: %s", choices, error.strerror or error)
        return None
    return choices


def tune(sources: Iterable[Source], compiler: Compiler, store: ProgramStore) -> Iterator[tuple[StepSource, bool]]:
    """Has the store hold each of the sources that may be tuned, one after another, since tries beside each other would mistake
    each other's time for their own; yields it, and whether kernels had to be tried for it.

    Args:
      compiler: for the devices that kernels are tried on, with the folder that the choices are added to.
    """
    tries = replace(compiler, tunes=True)
    for source in sources:
        if isinstance(source, StepSource) and source.tuned:
            tried, own = False, compiler.devices.at(range(source.tp))
            if store.kept_bytes(repr(source)) is None:
                program = replace(compiler, devices=own).compile_tuned(source)
                tried = program is None
                store.keep(repr(source), program or replace(tries, devices=own).compile(source)[1])
            yield source, tried


def _unpack(archive: Path, choices: Path) -> None:
    """Adds what is not there yet; a file that two processes write is the same in both."""
    with zipfile.ZipFile(archive) as shipped:
        for name in shipped.namelist():
            if not (choices / name).exists():
                shipped.extract(name, choices)
