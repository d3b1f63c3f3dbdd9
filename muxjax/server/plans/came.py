"""A problem by what came for its models, in place of what was expected: pure."""

from collections.abc import Mapping

from muxjax.placement.problem import Load, Problem, with_loads
from muxjax.workload.measured import Counts, came_between


def with_what_came(problem: Problem, before: Mapping[str, Counts], after: Mapping[str, Counts], seconds: float) -> Problem:
    """The problem with the rates and lengths between two looks, so many seconds apart; of models without counts its own stay.

    Raises:
      ConfigError: counts went down, or a value outside its range.
    """
    known = {demand.name for demand in problem.demands}
    came = came_between(before, after, seconds)
    return with_loads(problem, {model: Load(**found._asdict()) for model, found in came.items() if model in known})
