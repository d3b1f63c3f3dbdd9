"""Why a placement is as it is: what each LLM would do elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from muxjax.placement.objective import NO_UNIT, Score
from muxjax.placement.problem import Placed, Placement, UnitPlan

LOOKED_AT = 16
"""Other units that are looked at for each LLM: those with the fewest LLMs a device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """An LLM of a unit, and the best other unit for it.

    Args:
      unit, runner_up: positions in the placement; the runner-up is where it would be worth most, None where no other unit could hold it.
      cost_rps: throughput of all units together that the move to the runner-up would lose, and may be below 0.
    """

    model: str
    unit: int
    runner_up: int | None
    cost_rps: float


def reasons(placement: Placement, score: Score, serves: Score | None = None) -> Iterator[Reason]:
    """Reasons of each LLM of each unit, in their order; of units that are equal, for the first one.

    Args:
      score: what a unit is worth; serves: its requests a second, the score if None.
    """
    score = cache(score)
    serves = cache(serves) if serves else score
    first: dict[UnitPlan, int] = {}
    units = [replace(unit, first_device=None) for unit in placement.units]
    for at, unit in enumerate(units):
        first.setdefault(unit, at)
    by_busyness = sorted(first.values(), key=lambda at: (len(units[at].members) / units[at].devices, at))[:LOOKED_AT]
    for unit, at in first.items():
        for placed in unit.members:
            left = replace(unit, members=tuple(other for other in unit.members if other is not placed))
            ways = {to: _with(placed, units[to], score) for to in by_busyness if to != at}
            gains = {to: score(way) - _of(units[to], score) for to, way in ways.items() if way}
            best = max(gains, key=lambda to: (gains[to], -to), default=None)
            if best is None or gains[best] == NO_UNIT:
                yield Reason(model=placed.model, unit=at, runner_up=None, cost_rps=0.0)
            else:
                before, after = (unit, units[best]), (left, ways[best])
                cost_rps = sum(_of(one, serves) for one in before) - sum(_of(one, serves) for one in after if one)
                yield Reason(model=placed.model, unit=at, runner_up=best, cost_rps=cost_rps)


def _of(unit: UnitPlan, score: Score) -> float:
    return score(unit) if unit.members else 0.0


def _with(placed: Placed, unit: UnitPlan, score: Score) -> UnitPlan | None:
    """The unit with that LLM on the devices of it that suit it best; None if it cannot be there."""
    if any(other.model == placed.model for other in unit.members) or placed.tp > unit.devices:
        return None
    starts = range(0, unit.devices - placed.tp + 1, placed.tp)
    choices = (replace(placed, devices=tuple(range(start, start + placed.tp))) for start in starts)
    return max((replace(unit, members=(*unit.members, choice)) for choice in choices), key=score)
