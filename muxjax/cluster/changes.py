"""From the units there are to those that are wanted: what has to be done, as a value."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from muxjax.cluster.plan import UnitSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChange:
    """The steps of a change of plan.

    Args:
      start: units on devices that nobody has, or that a unit of `stop` gives back.
      stop: units that are no longer wanted, or are started again, since they have failed or hold a model otherwise.
      load, remove: models that come to a unit that stays, or go from it: (unit, model).
      stay: the units that stay, as they will be.
    """

    start: tuple[UnitSpec, ...]
    stop: tuple[str, ...]
    load: tuple[tuple[str, str], ...]
    remove: tuple[tuple[str, str], ...]
    stay: tuple[UnitSpec, ...]

    @property
    def again(self) -> frozenset[str]:
        """Units that are stopped and started."""
        return frozenset(self.stop) & {unit.name for unit in self.start}

    @property
    def coming(self) -> frozenset[str]:
        """Models that will be where they were not."""
        return frozenset([model for _, model in self.load] + [model for unit in self.start for model in unit.models])


def plan_change(old: Iterable[UnitSpec], new: Iterable[UnitSpec], failed: Collection[str] = ()) -> PlanChange:
    """What leads from the old units to the new ones. A unit on the same devices stays, and its worker with it, unless one of its models is
    to be held in other bits: a model is as it was loaded.

    Args:
      failed: old units that have no worker any more; who wants one of them wants another try.
    """
    before, after = {unit.name: unit for unit in old}, {unit.name: unit for unit in new}
    begun = {*failed} | {name for name, unit in after.items() if name in before and _holds_otherwise(before[name], unit)}
    stay = [unit for name, unit in after.items() if name in before and name not in begun]
    return PlanChange(
        start=tuple(unit for name, unit in after.items() if name not in before or name in begun),
        stop=tuple(name for name in before if name not in after or name in begun),
        load=tuple((unit.name, model) for unit in stay for model in unit.models if model not in before[unit.name].models),
        remove=tuple((unit.name, model) for unit in stay for model in before[unit.name].models if model not in unit.models),
        stay=tuple(stay),
    )


def _holds_otherwise(before: UnitSpec, after: UnitSpec) -> bool:
    """A model of both has its weights or its cache in other bits, or on other devices of the unit."""
    were, will = (
        {one.name: (one.quantization, one.kv_cache_dtype, unit.options.devices_of(one)) for one in unit.options.models}
        for unit in (before, after)
    )
    return any(were[name] != will[name] for name in were.keys() & will.keys())


def in_the_way(change: PlanChange, old: Iterable[UnitSpec]) -> tuple[str, ...]:
    """Of the units to stop, those that have devices of a unit to start."""
    wanted = {device for unit in change.start for device in unit.devices}
    return tuple(unit.name for unit in old if unit.name in change.stop and wanted.intersection(unit.devices))


def told(change: PlanChange) -> list[str]:
    """The change in words, a line a step."""
    return [
        *(f"load {model} on unit {unit}" for unit, model in change.load),
        *(f"start unit {unit.name}{' again,' * (unit.name in change.again)} with {', '.join(unit.models)}" for unit in change.start),
        *(f"remove {model} from unit {unit}" for unit, model in change.remove),
        *(f"stop unit {name}" for name in change.stop if name not in change.again),
    ]
