"""What all placers ask of a problem: the objective over units, and each LLM's candidates."""

from muxjax.cost.base import Costs
from muxjax.placement.candidates import Candidates, estimate_alone
from muxjax.placement.estimate.estimator import score
from muxjax.placement.objective import Objective
from muxjax.placement.problem import Problem


def appraise(problem: Problem, costs: Costs) -> tuple[Objective, Candidates]:
    """Worth of units and candidates of LLMs by the estimator: what all placers ask.

    Raises:
      ConfigError: an LLM fits no mesh.
    """
    candidates = Candidates(problem, estimate_alone(problem, costs))
    return Objective(problem, score(problem, costs), candidates.sm_share), candidates
