"""Programs that are compiled once in a process, whichever tests run them: most of what these tests take is tracing and compiling."""

import contextlib
import functools
from collections.abc import Iterable, Iterator

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from muxjax.device.programs import needs
from muxjax.device.programs.library import ProgramLibrary
from muxjax.device.programs.sources import Source
from muxjax.launch.program_builder import ProgramBuilder
from muxjax.models.sharding import Devices


class KeptPrograms:
    """A library that lets go of no program."""

    def __init__(self, library: ProgramLibrary):
        self._library = library
        self._programs: dict[Devices, dict[Source, jax.stages.Compiled]] = {}

    def find(self, sources: Iterable[Source], devices: Devices, *, beside: bool = False) -> Iterator[tuple[Source, jax.stages.Compiled]]:
        sources = list(sources)
        programs = self._programs.setdefault(devices, {})
        programs.update(self._library.find([source for source in sources if source not in programs], devices))
        return ((source, programs[source]) for source in sources)


@functools.cache
def kept_programs(tp: int) -> KeptPrograms:
    """Those of the first tp devices."""
    return KeptPrograms(ProgramLibrary.open(Devices.first(tp), ""))


@contextlib.contextmanager
def only_essential_programs() -> Iterator[None]:
    """Engines that are built inside make no programs but those that their start waits for: the rest would compete with the test for the
    cores, and which step runs on which program would be chance. Steps that only decode have one of their own, as those of large models
    have. Behind the block JAX keeps programs in its own cache again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProgramBuilder, "start", lambda self: None)
        patch.setattr(needs, "LITTLE_WORK", 0)
        try:
            yield
        finally:
            with_jax_cache()


def with_jax_cache() -> None:
    """Undoes `muxjax.device.programs.store.without_jax_cache`."""
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()
