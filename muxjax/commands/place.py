"""`muxjax place`: from a problem in YAML to a placement in JSON, with a table for people."""

import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

from tqdm import tqdm

from muxjax.commands.problem_file import read_problem
from muxjax.cost.measured import costs_of
from muxjax.errors import ConfigError, require
from muxjax.placement.check import violations
from muxjax.placement.estimate.estimator import Estimator, UnitEstimate, score
from muxjax.placement.explain import Reason, reasons
from muxjax.placement.greedy import GoOn, PlacementResult
from muxjax.placement.headroom import place_with_headroom
from muxjax.placement.plan_file import BEGINS as PLACEMENT
from muxjax.placement.plan_file import as_json, write_placement
from muxjax.placement.problem import Placement, Problem, UnitPlan
from muxjax.placement.search_space import search_space
from muxjax.units import show_s, show_table
from muxjax.whole_file import require_writable

MOST_S = 1e6
SERVED = 0.995
"""Share of its rate, from which a model counts as served: rounded, it is all."""
TOLD = 8
"""Models that are named at most, those of which the least is served."""


def run(
    source: Path,
    destination: Path | None,
    *,
    explain: bool,
    in_json: bool = False,
    measured: Path | None = None,
    time_limit_s: float | None = None,
) -> None:
    """Prints the placement and writes it, where a file is named.

    Args:
      in_json: prints a placement file with what it serves in place of the tables.
      measured: a cost table; None for those that come with the package.
      time_limit_s: after which the best placement so far is taken; None for no end but the search's own.
    Raises:
      ConfigError: the problem is not one, or cannot be solved, or not in time; nothing is written.
    """
    require(not (in_json and explain), "explain", explain, "left out with --json, whose output is read by programs")
    require(time_limit_s is None or 0 < time_limit_s <= MOST_S, "time_limit", time_limit_s, f"over 0, to {MOST_S:g}")
    if destination is not None:
        require_writable(destination, field="output", begins=[PLACEMENT])
    problem = read_problem(source)
    costs = costs_of(problem.cluster.chip, measured)
    with _progress(_demand_rps(problem), time_limit_s) as go_on:
        result = place_with_headroom(problem, partial(search_space, costs=costs), go_on=go_on)
    if broken := violations(problem, result.placement):
        raise ConfigError("; ".join(broken), field="models")
    estimate = cache(Estimator(problem, costs).estimate)
    served = _served(estimate, result.placement)
    if in_json:
        print(json.dumps(as_json(result.placement) | _served_json(problem, result, served), indent=1))
    else:
        print("\n".join(show_table(list(_rows(estimate, result.placement)))))
        print("\n".join(_summary(problem, result, served)))
    if explain:
        told = reasons(result.placement, score(problem, costs))
        print("\n".join(map(_reason, tqdm(told, desc="explaining", unit=" models", leave=False, disable=None))))
    if destination is not None:
        write_placement(result.placement, destination)


def _served_json(problem: Problem, result: PlacementResult, served: Mapping[str, float]) -> dict[str, object]:
    """Requests a second in all and of each model, asked and served, and how the search ended."""
    return {
        "demand_rps": _demand_rps(problem),
        "throughput_rps": result.throughput_rps,
        "growth": result.growth,
        "complete": result.complete,
        "models": {demand.name: {"demand_rps": demand.rate_rps, "throughput_rps": served[demand.name]} for demand in problem.demands},
    }


@contextmanager
def _progress(demand_rps: float, limit_s: float | None) -> Iterator[GoOn]:
    """A bar in a terminal, and whether there is time left."""
    end_s = time.monotonic() + (limit_s or math.inf)
    with tqdm(desc="placing", unit=" units", leave=False, disable=None) as bar:

        def go_on(units: int, throughput_rps: float) -> bool:
            bar.set_postfix_str(f"{_rps(throughput_rps)} of {_rps(demand_rps)} requests/s", refresh=False)
            bar.update(units)
            return time.monotonic() < end_s

        yield go_on


def _summary(problem: Problem, result: PlacementResult, served: Mapping[str, float]) -> Iterator[str]:
    growth = f"; all rates may grow {result.growth:.3g} times" if result.growth > 1 else ""
    of = f"{_rps(result.throughput_rps)} of {_rps(_demand_rps(problem))} requests/s{growth}"
    yield f"{of}; {result.groups} mesh groups and {result.units} units tried"
    if not result.complete:
        yield "the search ended at its limit: this is the best placement until then"
    short = [demand for demand in problem.demands if served[demand.name] < demand.rate_rps * SERVED]
    if short:
        short.sort(key=lambda demand: served[demand.name] / demand.rate_rps)
        told = [
            f"{one.name} {_rps(served[one.name])} of {_rps(one.rate_rps)} ({served[one.name] / one.rate_rps:.0%})" for one in short[:TOLD]
        ]
        more = f" and {len(short) - TOLD} more" if len(short) > TOLD else ""
        yield f"more is asked than is served, in requests/s: {', '.join(told)}{more}"


def _rps(rate_rps: float) -> str:
    return f"{rate_rps:.4g}" if rate_rps < 1e4 else f"{rate_rps:.0f}"


def _demand_rps(problem: Problem) -> float:
    return sum(demand.rate_rps for demand in problem.demands)


def _served(estimate: Callable[[UnitPlan], UnitEstimate], placement: Placement) -> Mapping[str, float]:
    """Requests a second that are served, by model."""
    served: Counter[str] = Counter()
    for unit in placement.units:
        served.update({name: model.throughput_rps for name, model in estimate(unit).models.items()})  # pyright: ignore[reportArgumentType]
    return served


def _rows(estimate: Callable[[UnitPlan], UnitEstimate], placement: Placement) -> Iterator[tuple[str, ...]]:
    """A row for each LLM of each unit; equal units, which lie beside each other, are told once."""
    yield "unit", "mesh", "model", "tp", "on", "SM share", "requests/s", "of", "headroom", "batch", "TTFT", "time per token"
    at = 0
    for unit, equal in itertools.groupby(placement.units):
        first, at = at, at + len(list(equal))
        held = sum(model.blocks for model in estimate(unit).models.values())
        for placed in unit.members:
            model = estimate(unit).models[placed.model]
            yield (
                str(first) if at == first + 1 else f"{first}-{at - 1}",
                str(unit.devices),
                placed.model,
                str(placed.tp),
                ",".join(map(str, placed.devices)),
                f"{placed.sm_share:.0%}",
                f"{model.throughput_rps:.3g}",
                f"{placed.rate_rps:.3g}",
                f"{1 - held / estimate(unit).total_blocks:.0%} of blocks",
                f"{model.batch:.1f}",
                show_s(model.ttft_s),
                show_s(model.tpot_s),
            )


def _reason(reason: Reason) -> str:
    if reason.runner_up is None:
        return f"{reason.model} is in unit {reason.unit}: no other unit has room for it"
    lost = f"would serve {reason.cost_rps:.3g} requests/s less" if reason.cost_rps > 1e-9 else "would serve as much"
    return f"{reason.model} is in unit {reason.unit}: in unit {reason.runner_up}, the runner-up, the cluster {lost}"
