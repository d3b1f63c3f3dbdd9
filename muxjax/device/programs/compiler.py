"""One program compiled, in this process, for devices that are here or only described."""

import contextlib
import logging
import threading
from dataclasses import dataclass
from pathlib import Path

import jax
from jax.sharding import AbstractMesh, use_abstract_mesh

from muxjax.device.programs.sources import Options, Source, StepSource, untuned
from muxjax.models.sharding import Devices

_log = logging.getLogger(__name__)
_tracing = threading.Lock()
"""One program is traced at a time in a process: that takes the interpreter anyway."""
_INCOMPLETE = "autotune_cache_hit_required"
"""In XLA's message when a choice of a kernel is not among those that were tuned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """Compiles sources for devices.

    Args:
      devices: be they here, or of a topology.
      mesh: what Pallas reads the chip from, where the devices are not here.
      tuning: a folder of XLA's choices of kernels, which it reads; None for none.
      tunes: new choices are made by trying them on the device, and added to the folder. Where it is not here, a program of
        kernels that nobody has tuned is made of others that need no tuning.
    """

    devices: Devices
    mesh: AbstractMesh | None = None
    tuning: Path | None = None
    tunes: bool = False

    def compile(self, source: Source) -> tuple[Source, jax.stages.Compiled]:
        """The program, and what it has been made of: `source`, or the same without tuning."""
        if self.tunes or not isinstance(source, StepSource) or not source.tuned or self._platform != "gpu":
            return source, self._compile(source, {})
        program = self.compile_tuned(source)
        if program is None:
            _log.info("%s is not tuned for %s rows", source.spec, source.shape.rows)
            source = untuned(source)
            program = self._compile(source, {})
        return source, program

    def compile_tuned(self, source: StepSource) -> jax.stages.Compiled | None:
        """The program by choices that have been made; None where one of them has not."""
        try:
            return self._compile(source, {"xla_gpu_require_complete_aot_autotune_results": True})
        except jax.errors.JaxRuntimeError as error:
            if _INCOMPLETE not in str(error):
                raise
            return None

    @property
    def _platform(self) -> str:
        return "gpu" if self.mesh else self.devices.each[0].platform

    def _compile(self, source: Source, more: Options) -> jax.stages.Compiled:
        with _tracing, use_abstract_mesh(self.mesh) if self.mesh else contextlib.nullcontext():
            lowered = source.lower(self.devices)
        options = source.options(self._platform) | self._tuning() | more
        return lowered.compile(compiler_options=options)  # pyright: ignore[reportArgumentType]  (JAX 0.10's stub knows no int)

    def _tuning(self) -> Options:
        if self._platform != "gpu":
            return {}
        if self.tuning is None:
            return {} if self.tunes else {"xla_gpu_autotune_level": 0}
        mode = "AUTOTUNE_CACHE_MODE_UPDATE" if self.tunes else "AUTOTUNE_CACHE_MODE_READ"
        return {"xla_gpu_per_fusion_autotune_cache_dir": str(self.tuning), "xla_gpu_experimental_autotune_cache_mode": mode}
