"""Numbers of devices for a placement beside units that serve already: pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from muxjax.placement.problem import Placement, UnitPlan


class Taken(NamedTuple):
    """The devices of a unit there is, by their numbers, its models, and the devices' chip, empty where nobody has said."""

    devices: tuple[int, ...]
    models: tuple[str, ...]
    chip: str = ""


def renumbered(placement: Placement, serving: Sequence[Taken], away: Iterable[Taken]) -> Placement:
    """The placement for launchers that find devices by themselves, for whom numbers only tell units apart.

    A unit gets the numbers of one that serves with as many devices of its kind, and with the most of its models: that one stays. Others
    get numbers of units of their kind that serve and do not stay, which are then in their way, or numbers that nobody had.

    Args:
      away: units that do not serve; their numbers are given to nobody.
    """
    units = [unit for unit in placement.units if unit.members]
    chips = [placement.chip(unit) for unit in units]
    stays = _matches(units, chips, serving)
    free = sorted((device, taken.chip) for taken in serving if taken not in stays.values() for device in taken.devices)
    fresh = 1 + max((device for taken in [*serving, *away] for device in taken.devices), default=-1)
    firsts = {at: taken.devices[0] for at, taken in stays.items()}
    for at in sorted(set(range(len(units))) - set(stays), key=lambda at: -units[at].devices):
        run = _run([device for device, chip in free if _alike(chip, chips[at])], units[at].devices)
        firsts[at] = run[0] if run else fresh
        fresh += 0 if run else units[at].devices
        free = [own for own in free if own[0] not in run]
    return replace(placement, units=tuple(replace(unit, first_device=firsts[at]) for at, unit in enumerate(units)))


def _matches(units: Sequence[UnitPlan], chips: Sequence[str], serving: Sequence[Taken]) -> dict[int, Taken]:
    """Which unit of the plan, by its place, is served by which unit there is; those with the most models in common first."""
    shared = [
        (len(set(taken.models) & {placed.model for placed in unit.members}), at, taken)
        for at, unit in enumerate(units)
        for taken in serving
        if len(taken.devices) == unit.devices and _alike(taken.chip, chips[at])
    ]
    found: dict[int, Taken] = {}
    for _, at, taken in sorted(shared, key=lambda match: -match[0]):
        if at not in found and taken not in found.values():
            found[at] = taken
    return found


def _alike(chip: str, other: str) -> bool:
    """As far as anybody has said."""
    return not chip or not other or chip == other


def _run(free: Sequence[int], count: int) -> Sequence[int]:
    """So many numbers that follow each other; none if there are none."""
    starts = (at for at in range(len(free) - count + 1) if free[at + count - 1] - free[at] == count - 1)
    at = next(starts, None)
    return () if at is None else free[at : at + count]
