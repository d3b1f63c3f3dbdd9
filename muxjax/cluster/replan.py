"""Whether another placement is worth the move: pure, by what was measured."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from muxjax.placement.problem import Placement, Problem, UnitPlan

THRESHOLD = 0.10
"""Gain from which on a move is worth it."""
PATIENCE = 2
"""Looks in a row that must say so."""


def rescaled(placement: Placement, problem: Problem) -> Placement:
    """The placement as it would serve the problem's rates: replicas have the same parts of them as before."""
    totals: dict[str, float] = {}
    for unit in placement.units:
        for placed in unit.members:
            totals[placed.model] = totals.get(placed.model, 0.0) + placed.rate_rps
    rates = {demand.name: demand.rate_rps for demand in problem.demands}

    def scaled(unit: UnitPlan) -> UnitPlan:
        members = [
            replace(placed, rate_rps=placed.rate_rps / totals[placed.model] * rates[placed.model])
            for placed in unit.members
            if placed.model in rates
        ]
        return replace(unit, members=tuple(members))

    return replace(placement, units=tuple(map(scaled, placement.units)))


def gain(old: Placement, new: Placement, throughput_rps: Callable[[UnitPlan], float]) -> float:
    """Share by which the new placement serves more than the old one; infinity where the old one serves nothing."""
    before, after = (sum(_served(unit, throughput_rps) for unit in placement.units) for placement in (old, new))
    return after / before - 1 if before > 0 else float("inf")


@dataclass(frozen=True, slots=True)
class Hysteresis:
    """A move is made when so many looks in a row have found a gain that is worth it.

    Args:
      looks: that found one so far.
    """

    threshold: float = THRESHOLD
    patience: int = PATIENCE
    looks: int = 0

    def after(self, found: float) -> "Hysteresis":
        """After one more look, which found that gain."""
        return replace(self, looks=self.looks + 1 if found >= self.threshold else 0)

    @property
    def is_due(self) -> bool:
        return self.looks >= self.patience


def _served(unit: UnitPlan, throughput_rps: Callable[[UnitPlan], float]) -> float:
    """0 of a unit that cannot be, which is worth less than that."""
    return max(0.0, throughput_rps(unit)) if unit.members else 0.0
