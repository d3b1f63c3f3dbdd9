"""`muxjax place`: from a problem in YAML to a placement in JSON, with a table for people."""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path

from muxjax.cluster.replan import gain, rescaled
from muxjax.commands.measure import measured_problem
from muxjax.commands.problem_file import read_problem
from muxjax.cost.cost_model import CostModel
from muxjax.cost.measured import costs_of
from muxjax.errors import ConfigError, require
from muxjax.placement import report
from muxjax.placement.candidates import Candidates
from muxjax.placement.check import violations
from muxjax.placement.estimate.estimator import Estimator
from muxjax.placement.explain import Reason, reasons
from muxjax.placement.greedy import GoOn
from muxjax.placement.headroom import place_with_headroom
from muxjax.placement.objective import NO_UNIT, Objective
from muxjax.placement.plan_file import BEGINS as PLACEMENT
from muxjax.placement.plan_file import write_placement
from muxjax.placement.problem import Placement, Problem, UnitPlan
from muxjax.placement.references import baselines
from muxjax.placement.report import Found
from muxjax.placement.search_space import score, search_space
from muxjax.placement.trim import fewest_devices, least_cost
from muxjax.progress import followed
from muxjax.server.plans.replanner import Better
from muxjax.whole_file import require_writable

MOST_S = 1e6
BASELINES: Mapping[str, Callable[[Problem, Objective, Candidates], Placement]] = {
    "memory-greedy": baselines.memory_greedy,
    "spatial-blind": baselines.spatial_blind,
    "spatial-aware": baselines.spatial_aware,
}
PLACERS = {"fewest-devices": fewest_devices, "least-cost": least_cost}
"""Of the objectives that are not for `place_with_headroom`."""


def run(
    source: Path,
    destination: Path | None,
    *,
    explain: bool,
    in_json: bool = False,
    measured: Path | None = None,
    time_limit_s: float | None = None,
    baseline: str | None = None,
    from_metrics: str | None = None,
    window_s: float = 60.0,
) -> None:
    """Prints the placement and writes it, where a file is named.

    Args:
      in_json: prints a placement file with what it serves in place of the tables.
      measured: a cost table; None for those that come with the package.
      time_limit_s: after which the best placement so far is taken, the first one if need be; None for no end but the search's own.
      baseline: of BASELINES, which places in the place of the search.
      from_metrics: address of a server whose requests, as they come in a window of so many seconds, are placed instead of the problem's.
    Raises:
      ConfigError: the problem is not one, or cannot be solved, or the server not be asked; nothing is written.
    """
    require(not (in_json and explain), "explain", explain, "left out with --json, whose output is read by programs")
    require(time_limit_s is None or 0 < time_limit_s <= MOST_S, "time_limit", time_limit_s, f"over 0, to {MOST_S:g}")
    require(baseline is None or baseline in BASELINES, "baseline", baseline, "one of " + ", ".join(BASELINES))
    if destination is not None:
        require_writable(destination, field="output", begins=[PLACEMENT])
    problem = read_problem(source)
    if from_metrics is not None:
        problem = measured_problem(problem, from_metrics, window_s)
    costs = costs_of(problem.cluster.chips, measured)
    found = solve(problem, costs, baseline=baseline, time_limit_s=time_limit_s)
    estimate = cache(Estimator(problem, costs).estimate)
    served = report.services(problem, found.placement, estimate)
    if in_json:
        print(json.dumps(report.in_json(problem, found, served), indent=1))
    else:
        print("\n".join(report.text(problem, found, served, estimate)))
    if explain:
        _explain(reasons(found.placement, score(problem, costs), _throughput(estimate)))
    if destination is not None:
        write_placement(found.placement, destination)


def solve(
    problem: Problem, costs: CostModel | None = None, *, baseline: str | None = None, time_limit_s: float | None = None, quiet: bool = False
) -> Found:
    """The placement of a problem, and how it was found.

    Args:
      costs: of steps; None for those that come with the package.
      quiet: nobody is told how far the search is.
      baseline, time_limit_s: as of `run`.
    Raises:
      ConfigError: the problem cannot be solved.
    """
    costs = costs or costs_of(problem.cluster.chips)
    found = _found(problem, costs, baseline, time_limit_s, quiet=quiet)
    if broken := violations(problem, found.placement):
        raise ConfigError("; ".join(broken), field="models")
    return found


def better(problem: Problem, now: Placement) -> Better:
    """A placement for the problem beside the one there is, as of `server.plans.replanner.Search`.

    Raises:
      ConfigError: the problem cannot be solved.
    """
    costs = costs_of(problem.cluster.chips)
    placement = solve(problem, costs, quiet=True).placement
    throughput_rps = _throughput(cache(Estimator(problem, costs).estimate))
    return Better(placement, gain(rescaled(now, problem), placement, throughput_rps))


def _found(problem: Problem, costs: CostModel, baseline: str | None, time_limit_s: float | None, *, quiet: bool) -> Found:
    """By the baseline, or else by a search for the problem's objective."""
    if baseline is not None:
        return Found(placement=BASELINES[baseline](problem, *search_space(problem, costs)), how=f"placed by {baseline}")
    placer = PLACERS.get(problem.objective, place_with_headroom)
    with _progress(time_limit_s, quiet=quiet) as go_on:
        result = placer(problem, partial(search_space, costs=costs), go_on=go_on)
    how = f"{result.groups} mesh groups and {result.units} units tried"
    return Found(placement=result.placement, how=how, growth=result.growth, complete=result.complete)


def _throughput(estimate: report.Estimate) -> Callable[[UnitPlan], float]:
    """Requests a second of a unit, whatever their worth; NO_UNIT where it cannot be."""

    def of(unit: UnitPlan) -> float:
        try:
            return estimate(unit).throughput_rps
        except ConfigError:
            return NO_UNIT

    return of


def _explain(told: Iterable[Reason]) -> None:
    lines = []
    with followed("explaining", " models", None) as one_more:
        for reason in told:
            lines.append(report.reason(reason))
            one_more()
    print("\n".join(lines))


@contextmanager
def _progress(limit_s: float | None, *, quiet: bool) -> Iterator[GoOn]:
    """Tells how far the search is, and whether there is time left, or no placement yet."""
    end_s = time.monotonic() + (limit_s or math.inf)
    with nullcontext(lambda *_: None) if quiet else followed("placing", " units", None) as more:

        def go_on(units: int, worth: float) -> bool:
            more(units, f"{max(0.0, worth):.1%} of what can be served at best")
            return time.monotonic() < end_s or worth <= 0

        yield go_on
