"""`muxjax place`: from a problem in YAML to a placement in JSON, with a table for people."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from muxjax.commands.problem_file import read_problem
from muxjax.cost.cost_model import CostModel
from muxjax.cost.measured import costs_of
from muxjax.errors import ConfigError
from muxjax.placement.check import violations
from muxjax.placement.estimate.estimator import Estimator, score
from muxjax.placement.explain import reasons
from muxjax.placement.headroom import place_with_headroom
from muxjax.placement.plan_file import BEGINS as PLACEMENT
from muxjax.placement.plan_file import write_placement
from muxjax.placement.problem import Placement, Problem
from muxjax.placement.search_space import search_space
from muxjax.units import show_s, show_table
from muxjax.whole_file import require_writable


def run(source: Path, destination: Path | None, *, explain: bool, measured: Path | None = None) -> None:
    """Prints the placement and writes it, where a file is named.

    Args:
      measured: a cost table; None for those that come with the package.
    Raises:
      ConfigError: the problem is not one, or cannot be solved; nothing is written.
    """
    if destination is not None:
        require_writable(destination, field="output", begins=[PLACEMENT])
    problem = read_problem(source)
    costs = costs_of(problem.cluster.chip, measured)
    result = place_with_headroom(problem, partial(search_space, costs=costs))
    if broken := violations(problem, result.placement):
        raise ConfigError("; ".join(broken), field="models")
    demanded = sum(demand.rate_rps for demand in problem.demands)
    print("\n".join(show_table(list(_rows(problem, costs, result.placement)))))
    growth = f"; all rates may grow {result.growth:.3g} times" if result.growth > 1 else ""
    print(f"{result.throughput_rps:.4g} of {demanded:.4g} requests/s{growth}; {result.groups} mesh groups and {result.units} units tried")
    if explain:
        print("\n".join(_reasons(problem, costs, result.placement)))
    if destination is not None:
        write_placement(result.placement, destination)


def _rows(problem: Problem, costs: CostModel, placement: Placement) -> Iterator[tuple[str, ...]]:
    yield "unit", "mesh", "model", "tp", "on", "SM share", "requests/s", "of", "headroom", "batch", "TTFT", "time per token"
    estimator = Estimator(problem, costs)
    for at, unit in enumerate(placement.units):
        estimate = estimator.estimate(unit)
        held = sum(model.blocks for model in estimate.models.values())
        for placed in unit.members:
            model = estimate.models[placed.model]
            yield (
                str(at),
                str(unit.devices),
                placed.model,
                str(placed.tp),
                ",".join(map(str, placed.devices)),
                f"{placed.sm_share:.0%}",
                f"{model.throughput_rps:.3g}",
                f"{placed.rate_rps:.3g}",
                f"{1 - held / estimate.total_blocks:.0%} of blocks",
                f"{model.batch:.1f}",
                show_s(model.ttft_s),
                show_s(model.tpot_s),
            )


def _reasons(problem: Problem, costs: CostModel, placement: Placement) -> Iterator[str]:
    for reason in reasons(placement, score(problem, costs)):
        if reason.runner_up is None:
            yield f"{reason.model} is in unit {reason.unit}: no other unit has room for it"
        else:
            lost = f"would serve {reason.cost_rps:.3g} requests/s less" if reason.cost_rps > 1e-9 else "would serve as much"
            yield f"{reason.model} is in unit {reason.unit}: in unit {reason.runner_up}, the runner-up, the cluster {lost}"
