"""Whether another placement is worth the move: pure, by what was measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from muxjax.errors import ConfigError
from muxjax.placement.problem import MOST_TOKENS, Demand, Placement, Problem, UnitPlan

THRESHOLD = 0.10
"""Gain from which on a move is worth it."""
PATIENCE = 2
"""Looks in a row that must say so."""


class Measured(NamedTuple):
    """What came for a model: requests a second, and their mean lengths, None for those of the problem."""

    rate_rps: float
    prompt_tokens: float | None
    output_tokens: float | None


def with_loads(problem: Problem, measured: Mapping[str, Measured]) -> Problem:
    """The problem with what was measured in place of what was expected; of models that were not, the problem's own stays."""
    return replace(problem, demands=tuple(_demand(demand, measured.get(demand.name)) for demand in problem.demands))


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

    return Placement(units=tuple(map(scaled, placement.units)))


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


def _demand(demand: Demand, found: Measured | None) -> Demand:
    if found is None:
        return demand
    prompt, output = found.prompt_tokens or demand.prompt_tokens, found.output_tokens or demand.output_tokens
    longest = min(MOST_TOKENS, demand.spec.max_len / 2)  # a mean, of requests that fit
    return replace(demand, rate_rps=found.rate_rps, prompt_tokens=min(prompt, longest), output_tokens=min(output, longest))


def _served(unit: UnitPlan, throughput_rps: Callable[[UnitPlan], float]) -> float:
    try:
        return throughput_rps(unit) if unit.members else 0.0
    except ConfigError:
        return 0.0
