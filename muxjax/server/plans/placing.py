"""The placement that a service serves, and its change while requests go on."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from muxjax.cluster.changes import told
from muxjax.cluster.engine import ClusterEngine
from muxjax.cluster.mover import Mover
from muxjax.cluster.plan import UnitSpec, as_served, unit_specs
from muxjax.cluster.remote_unit import UnitState
from muxjax.engine.model.plan import ModelPlan
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import CheckpointError, ConfigError, RequestError
from muxjax.placement.problem import Placement

Models = Callable[[], Sequence[ModelOptions]]
_log = logging.getLogger(__name__)


class Place(NamedTuple):
    """A unit as people see it."""

    name: str
    devices: tuple[int, ...]
    models: tuple[str, ...]
    state: UnitState
    trouble: str
    starts: int
    chip: str


class Placing:
    """Moves models between units; for the tasks of one event loop. A change that has begun is carried through.

    Args:
      options: of all models that may be placed, and what units have in common.
      devices: that there are; None where that is not known.
    """

    def __init__(self, engine: ClusterEngine, placement: Placement, options: UnitOptions, devices: int | None):
        self._engine, self._placement, self._options, self._devices = engine, placement, options, devices
        self._models: Models = lambda: options.models
        self._mover = Mover(engine)
        self._moving: asyncio.Task[list[str]] | None = None

    def follow(self, models: Models) -> None:
        """Places the models that there are by then, in place of those of its options."""
        self._models = models

    @property
    def placement(self) -> Placement:
        """The one that was asked for last, with the models that its units have by now."""
        return as_served(self._placement, [unit.spec for unit in self._engine.units.values()])

    @property
    def models(self) -> frozenset[str]:
        """Those that may be placed."""
        return frozenset(model.name for model in self._models())

    def places(self) -> list[Place]:
        """The units there are."""
        return [
            Place(unit.name, unit.spec.devices, unit.spec.models, unit.state, unit.trouble, unit.starts, unit.spec.chip)
            for unit in self._engine.units.values()
        ]

    def options_of(self, model: str) -> ModelOptions | None:
        """A model's as a unit has them, which may hold it in fewer bits than it was configured with; None where no unit has it."""
        every = (own for unit in self._engine.units.values() for own in unit.spec.options.models)
        return next((own for own in every if own.name == model), None)

    def change_to(self, placement: Placement) -> list[str]:
        """What a change to that placement would do, a line a step.

        Raises:
          RequestError: it cannot be served here.
        """
        return told(self._mover.change_to(self._specs(placement)))

    async def move_to(self, placement: Placement) -> list[str]:
        """Serves another placement; returns when it is served, with what was done, a line a step.

        Raises:
          RequestError: it cannot be served here (400), or another change is on its way (409).
        """
        specs = self._specs(placement)
        if self._moving is not None and not self._moving.done():
            raise RequestError("Another placement is on its way.", code="conflict", status=409)
        self._moving = asyncio.create_task(self._move(placement, specs))
        self._moving.add_done_callback(lambda moved: moved.cancelled() or moved.exception())  # whoever asked may have gone
        try:
            return await asyncio.shield(self._moving)
        except ConfigError as error:
            raise RequestError.of(error, code="placement_refused") from error

    async def _move(self, placement: Placement, specs: Sequence[UnitSpec]) -> list[str]:
        try:
            lines = told(await self._mover.move(specs))
        except ConfigError as error:
            _log.warning("the plan has not changed: %s", error)
            raise
        self._placement = placement
        for line in lines:
            _log.info("the plan has changed: %s", line)
        return lines

    def _specs(self, placement: Placement) -> tuple[UnitSpec, ...]:
        """Its units; what comes is read before anything is ended for it.

        Raises:
          RequestError: it cannot be served here.
        """
        try:
            specs = unit_specs(placement, self._options, devices=self._devices, models=self._models())
            _require_readable(specs, self._mover.change_to(specs).coming)
        except (ConfigError, CheckpointError) as error:
            raise RequestError.of(error, code="placement_refused") from error
        return specs


def _require_readable(specs: Iterable[UnitSpec], coming: Collection[str]) -> None:
    """Raises ConfigError, CheckpointError: a model that comes cannot be read, or not be shared out over so many devices."""
    for spec in specs:
        for model in spec.options.models:
            if model.name in coming:
                ModelPlan.read(spec.options, model, spec.options.kv_dtype_on(cpu=False))
