"""Search space of a problem, which all placers take: the objective over units, and each LLM's candidates."""

from muxjax.cost.cost_model import CostModel
from muxjax.errors import ConfigError
from muxjax.placement.candidates import Candidates, estimate_alone
from muxjax.placement.estimate.estimator import Estimator
from muxjax.placement.goals import GOALS
from muxjax.placement.objective import NO_UNIT, Objective, Score
from muxjax.placement.problem import Problem, UnitPlan


def search_space(problem: Problem, costs: CostModel) -> tuple[Objective, Candidates]:
    """Objective and candidates, by the estimator.

    Raises:
      ConfigError: an LLM fits no mesh.
    """
    candidates = Candidates(problem, estimate_alone(problem, costs))
    return Objective(problem, score(problem, costs), candidates.sm_share, GOALS[problem.objective]), candidates


def score(problem: Problem, costs: CostModel) -> Score:
    """What units of the problem are worth by its objective; NO_UNIT for one that cannot be, or is less fair than it must."""
    estimator, goal = Estimator(problem, costs), GOALS[problem.objective]
    demands = {demand.name: demand for demand in problem.demands}

    def of(unit: UnitPlan) -> float:
        try:
            estimate = estimator.estimate(unit)
        except ConfigError:
            return NO_UNIT
        if estimate.unfairness > problem.fairness:
            return NO_UNIT
        total = 0.0
        for placed in unit.members:
            demand, found = demands[placed.model], estimate.models[placed.model]
            share = found.throughput_rps * found.in_time(demand) / placed.rate_rps
            total += demand.weight * goal(demand.rate_rps, share) * placed.rate_rps / demand.rate_rps
        return total

    return of
