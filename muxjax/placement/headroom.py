"""Headroom: of placements that serve everything, the one under which all rates may grow most.

Traffic varies, and the devices are there: headroom is worth more than devices that are left over. Who wants fewer devices names a smaller
cluster.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from muxjax.errors import ConfigError
from muxjax.placement.candidates import Candidates
from muxjax.placement.greedy import Effort, GoOn, PlacementResult, Searched, placed, search
from muxjax.placement.objective import Objective
from muxjax.placement.problem import Problem
from muxjax.placement.search import EQUAL

LIGHT = Effort(groups=0, cuts=4, breadth=0, estimates=5_000, whole=True)
"""Effort of the search with grown rates: it mostly ends where one cannot do more."""
MOST_UNITS = 100_000
"""That are estimated with grown rates."""
FIRST_STEP, LAST_STEP, MOST = 2.0, 1.3, 64.0
"""Rates are multiplied by the first step as long as all is served, then by its square root, and so on down to the last; MOST in all."""

ENDLESS_RPS = 1e9
"""More than any cluster serves."""

SearchSpaceOf = Callable[[Problem], tuple[Objective, Candidates]]
"""Objective and candidates of a problem, such as `search_space` has them."""


def place_with_headroom(
    problem: Problem, search_space: SearchSpaceOf, effort: Effort | None = None, go_on: GoOn = lambda units, worth: True
) -> PlacementResult:
    """The best placement found; if it serves everything, one that would serve more of the same, in so far as one is found.

    Args:
      go_on: as of `place`.
    Raises:
      ConfigError: an LLM, or all of them together, do not fit.
    """
    objective, candidates = search_space(problem)
    first = best = search(problem, objective, candidates, effort, go_on)
    growth, step, tried = 1.0, FIRST_STEP, 0
    most = min(MOST, _most_growth(problem, search_space)) if objective.serves_all(first.worth) else growth

    def still(units: int, worth: float) -> bool:
        nonlocal tried
        tried += units
        return go_on(units, 1.0) and tried < MOST_UNITS

    while most > growth and step >= LAST_STEP and still(0, 0):
        grown = _grown(problem, growth * step, search_space, still) if growth * step <= most else None
        if grown is None:
            most, step = min(most, growth * step * (1 - EQUAL)), math.sqrt(step)
        else:
            growth, best = growth * step, grown
    return placed(replace(first, state=best.state), objective, growth)


def _most_growth(problem: Problem, search_space: SearchSpaceOf) -> float:
    """Growth beyond which not all is served if none serves more beside others than alone: each LLM has as many devices as it keeps busy."""
    demands = tuple(replace(demand, rate_rps=ENDLESS_RPS, ttft_s=None, tpot_s=None) for demand in problem.demands)
    _, candidates = search_space(replace(problem, demands=demands))
    pools = range(len(problem.cluster.pools))
    each_rps = {
        demand.name: max(one.throughput_rps / one.tp for pool in pools for one in candidates.of(demand.name, pool=pool))
        for demand in problem.demands
    }
    return problem.cluster.devices / sum(demand.rate_rps / each_rps[demand.name] for demand in problem.demands)


def _grown(problem: Problem, growth: float, search_space: SearchSpaceOf, go_on: GoOn) -> Searched | None:
    """A placement that serves so many times the rates; None if none was found."""
    demands = tuple(replace(demand, rate_rps=demand.rate_rps * growth) for demand in problem.demands)
    return serving_all(replace(problem, demands=demands), search_space, LIGHT, go_on)


def serving_all(problem: Problem, search_space: SearchSpaceOf, effort: Effort, go_on: GoOn) -> Searched | None:
    """A state that serves everything; None if none was found."""
    try:
        objective, candidates = search_space(problem)
        result = search(problem, objective, candidates, effort, go_on)
    except ConfigError:
        return None
    return result if objective.serves_all(result.worth) else None
