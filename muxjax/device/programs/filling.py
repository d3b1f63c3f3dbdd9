"""A store filled ahead of a start, by worker processes, with no device in hand."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import as_completed
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from muxjax.device.programs import target, tuning
from muxjax.device.programs.compiler import Compiler
from muxjax.device.programs.environment import environment
from muxjax.device.programs.pool import CompileWorkers
from muxjax.device.programs.sources import Source, StepSource, program_name, untuned
from muxjax.device.programs.store import ProgramStore, without_jax_cache
from muxjax.device.programs.target import Target
from muxjax.device.programs.worker import Setup
from muxjax.errors import ConfigError
from muxjax.models.sharding import Devices

_SKIP_CHECK = "JAX_SKIP_CUDA_CONSTRAINTS_CHECK"
"""The plugin looks for a GPU otherwise."""


Wanted = tuple[Source, tuple[int, ...]]
"""A source, and the numbers of the devices that its program is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """A store that is to be filled for devices.

    Args:
      devices: of a topology, or those of the CPU.
      target: the chip; None for the CPU.
      environment: what all programs of the store depend on.
    """

    devices: Devices
    target: Target | None
    folder: Path
    environment: str
    store: ProgramStore

    @classmethod
    def of(cls, chip: str, tp: int, folder: Path) -> "Filling":
        """For so many chips of a name; "" for what is attached.

        Raises:
          ConfigError: nobody has described it, or it cannot be compiled for here.
        """
        if chip:
            return cls._of_target(target.shipped(chip), tp, folder)
        devices = Devices.first(tp)
        if devices.each[0].platform == "cpu":
            return cls._on(devices, None, folder)
        attached = target.attached(devices.each[0])
        if attached is None:
            raise ConfigError(f"XLA does not describe {devices.kind}: start the server with --wait-for-all", field="chip")
        return cls._of_target(attached, tp, folder)

    @classmethod
    def _of_target(cls, chip: Target, tp: int, folder: Path) -> "Filling":
        os.environ[_SKIP_CHECK] = "1"
        try:
            return cls._on(chip.devices(tp), chip, folder)
        except Exception as error:  # of JAX, which has several kinds for a plugin that is not there
            told = str(error).partition("\n")[0][:200]
            raise ConfigError(f"{chip.device_kind} cannot be compiled for, which takes the extra cuda: {told}", field="chip") from error

    @classmethod
    def _on(cls, devices: Devices, chip: Target | None, folder: Path) -> "Filling":
        made_for = environment(devices.kind)
        return cls(devices=devices, target=chip, folder=folder, environment=made_for, store=ProgramStore(folder, made_for))

    def kept_bytes(self, source: Source, places: tuple[int, ...]) -> int | None:
        """Size of a program that is kept for those devices, tuned or not; None if it is not."""
        sizes = (self.store.kept_bytes(program_name(each, places)) for each in dict.fromkeys((source, untuned(source))))
        return next((size for size in sizes if size is not None), None)

    def fill(self, wanted: Iterable[Wanted]) -> Iterator[tuple[Wanted, str]]:
        """Compiles each of the programs, several at a time; yields it with what went wrong, or ""."""
        setup = Setup(
            target=self.target,
            devices=self.devices.tp,
            folder=self.folder,
            environment=self.environment,
            tuning=self._choices(),
            niceness=0,
        )
        with closing(CompileWorkers(setup, os.cpu_count() or 1)) as workers:
            futures = {workers.compile(*program): program for program in wanted}
            for future in as_completed(futures):
                yield futures[future], future.result()

    def tune(self, sources: Iterable[Source]) -> Iterator[tuple[StepSource, bool]]:
        """Makes XLA's choices for those of the sources that may be tuned, on the devices at hand; see `tuning.tune`.

        Raises:
          ConfigError: there is no GPU, or choices cannot be kept.
        """
        devices = Devices.first(self.devices.tp)
        if devices.each[0].platform != "gpu":
            raise ConfigError(f"tune needs a GPU to try kernels on, and JAX sees {devices.kind}", field="tune")
        choices = self._choices()
        if choices is None:
            raise ConfigError(f"tune keeps what it chooses in {self.folder}, which cannot be written to", field="tune")
        without_jax_cache()  # which would hand out programs without choosing anything
        return tuning.tune(sources, Compiler(devices=devices, tuning=choices), self.store)

    def _choices(self) -> Path | None:
        """The folder of XLA's choices; None on a CPU, which has none."""
        return tuning.folder(self.folder, self.target.device_kind) if self.target else None
