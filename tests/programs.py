"""Programs that are compiled once in a process, whichever tests run them: most of what these tests take is tracing and compiling."""

import functools
from collections.abc import Iterable, Iterator

import jax

from muxjax.device.programs.library import ProgramLibrary
from muxjax.device.programs.sources import Source
from muxjax.models.sharding import Devices


class KeptPrograms:
    """A library that lets go of no program."""

    def __init__(self, library: ProgramLibrary):
        self._library = library
        self._programs: dict[Source, jax.stages.Compiled] = {}

    def find(self, sources: Iterable[Source]) -> Iterator[tuple[Source, jax.stages.Compiled]]:
        sources = list(sources)
        self._programs.update(self._library.find(source for source in sources if source not in self._programs))
        return ((source, self._programs[source]) for source in sources)


@functools.cache
def kept_programs(tp: int) -> KeptPrograms:
    """Those of the first tp devices."""
    return KeptPrograms(ProgramLibrary.open(Devices.first(tp), ""))
