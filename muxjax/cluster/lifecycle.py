"""The lifecycle of models over several units: each change is made on the units that it is about."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from muxjax.cluster.engine import ClusterEngine
from muxjax.cluster.facts import spec_of
from muxjax.cluster.places import unplaced
from muxjax.cluster.remote_unit import RemoteUnit, UnitState
from muxjax.cluster.wire.messages import Load, Remove, Sleep, Wake
from muxjax.engine.device_control import ProgramProgress
from muxjax.engine.options import ModelOptions
from muxjax.errors import RequestError
from muxjax.model_spec import ModelSpec


class ClusterLifecycle:
    """Changes the models of a running cluster, from threads other than the event loop's; see `engine.device_control.Lifecycle`."""

    def __init__(self, engine: ClusterEngine):
        self._engine = engine

    def states(self) -> Mapping[str, str]:
        return self._engine.states()

    def programs(self) -> Mapping[str, ProgramProgress]:
        return self._engine.programs()

    def load(self, options: ModelOptions) -> ModelSpec:
        """Serves a model on the unit with the most free cache, of those that there are when no plan changes.

        Raises:
          ConfigError: it cannot be served there.
        """
        self._engine.learn(options, spec_of(options))
        return self._engine.in_loop(self._load(options))

    def remove(self, name: str, *, timeout_s: float) -> None:
        self._engine.in_loop(self._remove_each(name, timeout_s))

    def sleep(self, name: str, *, timeout_s: float) -> None:
        self._engine.in_loop(self._each(name, lambda unit: unit.call(lambda call: Sleep(call, name, timeout_s))))

    def wake(self, name: str) -> None:
        self._engine.in_loop(self._each(name, lambda unit: unit.call(lambda call: Wake(call, name))))

    async def _load(self, options: ModelOptions) -> ModelSpec:
        async with self._engine.one_change:
            ready = [unit for unit in self._engine.units.values() if unit.state is UnitState.READY]
            if not ready:
                raise RequestError("No unit is ready to take a model.", code="unavailable", status=503)
            return await load(max(ready, key=_free_blocks), options)

    async def _remove_each(self, name: str, timeout_s: float) -> None:
        async with self._engine.one_change:
            await asyncio.gather(*(self._remove(unit, name, timeout_s) for unit in self._units_of(name)))

    async def _remove(self, unit: RemoteUnit, model: str, timeout_s: float) -> None:
        if unit.spec.models != (model,):
            return await remove(unit, model, timeout_s)
        with self._engine.closing(unit.name, [model]):  # a unit has a model, or is none
            await self._engine.drain_unit(unit.name, [model], timeout_s)
            await self._engine.drop_unit(unit.name)

    async def _each(self, name: str, change: Callable[[RemoteUnit], Awaitable[object]]) -> None:
        """Makes a change on all units of a model.

        Raises:
          RequestError: there is none (503).
        """
        units = self._units_of(name)
        if not units:
            raise unplaced(name)
        await asyncio.gather(*map(change, units))

    def _units_of(self, name: str) -> list[RemoteUnit]:
        return [unit for unit in self._engine.units.values() if name in unit.spec.models]


async def load(unit: RemoteUnit, options: ModelOptions) -> ModelSpec:
    """Serves one more model on a unit, from its next worker's start on too.

    Raises:
      ConfigError: it cannot be served there.
    """
    changed = await unit.call(lambda call: Load(call, options.unnamed_loras))
    unit.spec = unit.spec.plus(options)
    assert changed.spec is not None
    return changed.spec


async def remove(unit: RemoteUnit, model: str, timeout_s: float) -> None:
    """Ends a model on a unit, and for its next worker too; its last requests get so long, and then go on elsewhere if they can.

    Raises:
      ConfigError: it could not be removed.
    """
    await unit.call(lambda call: Remove(call, model, timeout_s))
    unit.spec = unit.spec.without(model)


def _free_blocks(unit: RemoteUnit) -> int:
    return unit.pulse.stats.free_blocks if unit.pulse and unit.pulse.stats else 0
