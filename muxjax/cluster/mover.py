"""A change of plan carried out while requests go on: what comes is there before what goes is closed, wherever there is room for both."""

import logging
from collections.abc import Collection, Mapping, Sequence

from muxjax.cluster.changes import PlanChange, in_the_way, plan_change
from muxjax.cluster.engine import ClusterEngine
from muxjax.cluster.lifecycle import load, remove
from muxjax.cluster.plan import UnitSpec
from muxjax.cluster.remote_unit import UnitState, arrived
from muxjax.engine.options import ModelOptions
from muxjax.errors import ConfigError

DRAIN_S = 60.0
"""Time that requests get to end where they are; then they go on at the new place."""
_log = logging.getLogger(__name__)


class Mover:
    """Changes the units of a running cluster, one plan at a time; for the tasks of its event loop."""

    def __init__(self, engine: ClusterEngine, *, drain_s: float = DRAIN_S):
        self._engine, self._drain_s = engine, drain_s

    def change_to(self, specs: Sequence[UnitSpec]) -> PlanChange:
        """What leads from the units of now to these."""
        units = self._engine.units.values()
        return plan_change([unit.spec for unit in units], specs, [unit.name for unit in units if unit.state is UnitState.FAILED])

    async def move(self, specs: Sequence[UnitSpec]) -> PlanChange:
        """Has these units serve, and no others.

        Raises:
          ConfigError: a model cannot come to a unit, or a unit not start; what served before serves on, where that is possible.
        """
        async with self._engine.one_change:
            change = self.change_to(specs)
            with self._engine.expecting(change.coming | self._going(change)):  # what goes comes back where the rest cannot come
                await self._bring(change, {spec.name: spec for spec in specs})
            await self._clear(change)
            for spec in change.stay:
                self._engine.units[spec.name].spec = spec
            return change

    def _going(self, change: PlanChange) -> frozenset[str]:
        """Models that some unit has no more, or not meanwhile."""
        stopped = [model for name in change.stop for model in self._engine.units[name].spec.models]
        return frozenset([model for _, model in change.remove] + stopped)

    async def _bring(self, change: PlanChange, specs: Mapping[str, UnitSpec]) -> None:
        """Loads and starts what is to come."""
        before = [unit.spec for unit in self._engine.units.values()]
        try:
            for name, model in change.load:
                if model not in self._engine.units[name].spec.models:
                    await self._load(specs[name], model, change)
            await self._replace(in_the_way(change, before), change.start)
        except ConfigError:
            for spec in before:
                await self._put_back(spec)
            raise

    async def _load(self, spec: UnitSpec, model: str, change: PlanChange) -> None:
        """A model more on a unit; where there is no room for it beside those that are to go, these go first."""
        unit = self._engine.units[spec.name]
        await arrived([unit])
        try:
            await load(unit, _options(spec, model))
        except ConfigError as error:
            going = [gone for where, gone in change.remove if where == spec.name and gone in unit.spec.models]
            if not going:
                raise
            _log.info("unit %s has no room for %s yet (%s): %s goes first", spec.name, model, error, ", ".join(going))
            if len(going) == len(unit.spec.models):  # nothing of it stays
                await self._replace([spec.name], [spec])
                return
            for gone in going:
                await self._remove(spec.name, gone)
            await load(unit, _options(spec, model))

    async def _replace(self, names: Sequence[str], specs: Sequence[UnitSpec]) -> None:
        """New units on devices that old ones give back, which get them again if that goes wrong."""
        before = [self._engine.units[name].spec for name in names]
        coming = frozenset(model for spec in specs for model in spec.models)
        await self._stop(names, coming)
        try:
            await self._start(specs)
        except ConfigError:
            await self._stop([spec.name for spec in specs if spec.name in self._engine.units], coming)
            await arrived([self._engine.add_unit(spec) for spec in before])
            raise

    async def _start(self, specs: Sequence[UnitSpec]) -> None:
        units = [self._engine.add_unit(spec) for spec in specs]
        await arrived(units)
        failed = [f"unit {unit.name}: {unit.trouble}" for unit in units if unit.state.is_away]
        if failed:
            raise ConfigError("; ".join(failed), field="placement")

    async def _clear(self, change: PlanChange) -> None:
        """Closes what is to go, now that its requests have where to go."""
        for name, model in change.remove:
            if model in self._engine.units[name].spec.models:
                await self._remove(name, model)
        await self._stop([name for name in change.stop if name in self._engine.units and name not in change.again])

    async def _remove(self, name: str, model: str) -> None:
        """Closes a model on a unit: new requests go elsewhere at once, those that it has when they have ended or have had their time."""
        with self._engine.closing(name, [model]):
            await self._engine.drain_unit(name, [model], self._drain_s)
            while True:
                try:
                    return await remove(self._engine.units[name], model, 0.0)
                except ConfigError:
                    if not self._engine.units[name].state.is_coming:
                        raise
                await arrived([self._engine.units[name]])  # its worker was lost, and the next one has the model too

    async def _stop(self, names: Sequence[str], coming: Collection[str] = ()) -> None:
        """Ends units. Requests for models that are coming back wait for that; all others have their time."""
        for name in names:
            models = self._engine.units[name].spec.models
            with self._engine.closing(name, models):
                without = [model for model in models if model not in coming or self._engine.served_beside(name, model)]
                await self._engine.drain_unit(name, without, self._drain_s)
                await self._engine.drop_unit(name)

    async def _put_back(self, before: UnitSpec) -> None:
        """A unit with the models that it had, as far as that goes."""
        name, unit = before.name, self._engine.units.get(before.name)
        models = unit.spec.models if unit else ()
        try:
            if unit is None:
                self._engine.add_unit(before)
            elif not set(models) & set(before.models):
                await self._replace([name], [before])
            else:
                for model in set(models) - set(before.models):
                    await self._remove(name, model)
                for model in set(before.models) - set(models):
                    await load(unit, _options(before, model))
        except ConfigError as error:
            _log.warning("unit %s serves %s and not %s: %s", name, ", ".join(models), ", ".join(before.models), error)


def _options(spec: UnitSpec, model: str) -> ModelOptions:
    return next(own for own in spec.options.models if own.name == model)
