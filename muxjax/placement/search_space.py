"""Search space of a problem, which all placers take: the objective over units, and each LLM's candidates."""

from muxjax.cost.cost_model import CostModel
from muxjax.placement.candidates import Candidates, estimate_alone
from muxjax.placement.estimate.estimator import score
from muxjax.placement.objective import Objective
from muxjax.placement.problem import Problem


def search_space(problem: Problem, costs: CostModel) -> tuple[Objective, Candidates]:
    """Objective and candidates, by the estimator.

    Raises:
      ConfigError: an LLM fits no mesh.
    """
    candidates = Candidates(problem, estimate_alone(problem, costs))
    return Objective(problem, score(problem, costs), candidates.sm_share), candidates
