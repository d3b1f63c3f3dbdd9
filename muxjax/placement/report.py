"""What is told of a placement: tables for people, and the same as JSON."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from muxjax.placement.estimate.estimator import ModelEstimate, UnitEstimate
from muxjax.placement.explain import Reason
from muxjax.placement.plan_file import as_json
from muxjax.placement.problem import Cluster, Demand, Placement, Problem, UnitPlan
from muxjax.units import show_s, show_table

SERVED = 0.995
"""Share of its rate, from which a model counts as served: rounded, it is all."""
TOLD = 8
"""Models that are named at most, those of which the least is served."""
LITTLE_RPS = 1e-9
"""A difference of requests a second that is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A placement, and how it was found.

    Args:
      how: for people; growth, complete: as of `PlacementResult`.
    """

    placement: Placement
    how: str
    growth: float = 1.0
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What all replicas of a model serve together.

    Args:
      goodput_rps: of the replicas that keep the model's targets.
      ttft_s, tpot_s: of the slowest replica.
    """

    demand: Demand
    throughput_rps: float
    goodput_rps: float
    ttft_s: float
    tpot_s: float

    @property
    def missed(self) -> list[str]:
        """Targets that a replica misses, with its time."""
        times = (("TTFT", self.ttft_s, self.demand.ttft_s), ("time per token", self.tpot_s, self.demand.tpot_s))
        return [f"{name} {_time(is_s)} of {show_s(most_s)}" for name, is_s, most_s in times if most_s and is_s > most_s]


Estimate = Callable[[UnitPlan], UnitEstimate]


def services(problem: Problem, placement: Placement, estimate: Estimate) -> list[Service]:
    """Of each model, in the problem's order."""
    replicas: dict[str, list[ModelEstimate]] = {}
    for unit in placement.units:
        for name, model in estimate(_unnumbered(unit)).models.items():
            replicas.setdefault(name, []).append(model)
    return [_service(demand, replicas[demand.name]) for demand in problem.demands]


def in_json(problem: Problem, found: Found, served: list[Service]) -> dict[str, Any]:
    """The placement file, and what it serves, in all and of each model; a time that is infinite is None."""
    models = {
        one.demand.name: {
            "demand_rps": one.demand.rate_rps,
            "throughput_rps": one.throughput_rps,
            "goodput_rps": one.goodput_rps,
            "ttft_s": one.ttft_s if one.ttft_s < math.inf else None,
            "tpot_s": one.tpot_s,
        }
        for one in served
    }
    return as_json(found.placement) | {
        "objective": problem.objective,
        "demand_rps": sum(demand.rate_rps for demand in problem.demands),
        "throughput_rps": sum(one.throughput_rps for one in served),
        "goodput_rps": sum(one.goodput_rps for one in served),
        "devices": sum(unit.devices for unit in found.placement.units),
        "price": price(problem.cluster, found.placement),
        "growth": found.growth,
        "complete": found.complete,
        "models": models,
    }


def text(problem: Problem, found: Found, served: list[Service], estimate: Estimate) -> Iterator[str]:
    """A table of all units, and what they serve together."""
    yield from show_table(list(_rows(estimate, found.placement)))
    growth = f"; all rates may grow {found.growth:.3g} times" if found.growth > 1 else ""
    demand_rps, throughput_rps = (
        sum(values) for values in zip(*((one.demand.rate_rps, one.throughput_rps) for one in served), strict=True)
    )
    yield (
        f"{_rps(throughput_rps)} of {_rps(demand_rps)} requests/s{growth}; {_devices(problem.cluster, found.placement)}; "
        f"{problem.objective}, {found.how}"
    )
    if not found.complete:
        yield "the search ended at its limit: this is the best placement until then"
    if problem.cut:
        yield f"the mean request is longer than the context, where answers are cut: {_some(problem.cut)}"
    late = [f"{one.demand.name} {' and '.join(one.missed)}" for one in served if one.missed]
    if late:
        yield f"targets are missed: {_some(late)}"
    short = [one for one in served if _share(one) < SERVED]
    if short:
        told = [
            f"{one.demand.name} {_rps(one.throughput_rps)} of {_rps(one.demand.rate_rps)} ({_share(one):.0%})"
            for one in sorted(short, key=_share)
        ]
        yield f"more is asked than is served, in requests/s: {_some(told)}"


def price(cluster: Cluster, placement: Placement) -> float:
    """Of the devices that it uses, see `Pool`."""
    return math.fsum(cluster.pools[unit.pool].price * unit.devices for unit in placement.units)


def _devices(cluster: Cluster, placement: Placement) -> str:
    """How many are used of how many; of each kind, and for how much, where there are several."""
    used = Counter(dict.fromkeys(range(len(cluster.pools)), 0))
    for unit in placement.units:
        used[unit.pool] += unit.devices
    if len(cluster.pools) == 1:
        return f"{used[0]} of {cluster.devices} devices"
    told = " and ".join(f"{used[at]} of {pool.devices} {pool.chip.name}" for at, pool in enumerate(cluster.pools))
    return f"{told}, price {price(cluster, placement):.4g} of {cluster.price:.4g}"


def reason(told: Reason) -> str:
    """A line for people."""
    if told.runner_up is None:
        return f"{told.model} is in unit {told.unit}: there is no other unit with room for it"
    lost = f"would serve {abs(told.cost_rps):.3g} requests/s " + ("less" if told.cost_rps > 0 else "more, which the objective is not after")
    if abs(told.cost_rps) <= LITTLE_RPS:
        lost = "would serve as much"
    return f"{told.model} is in unit {told.unit}: in unit {told.runner_up}, the runner-up, the cluster {lost}"


def _service(demand: Demand, replicas: list[ModelEstimate]) -> Service:
    return Service(
        demand=demand,
        throughput_rps=math.fsum(model.throughput_rps for model in replicas),
        goodput_rps=math.fsum(model.throughput_rps for model in replicas if model.in_time(demand) == 1),
        ttft_s=max(model.ttft_s for model in replicas),
        tpot_s=max(model.tpot_s for model in replicas),
    )


def _unnumbered(unit: UnitPlan) -> UnitPlan:
    """The same wherever it lies."""
    return replace(unit, first_device=None)


def _share(one: Service) -> float:
    return one.throughput_rps / one.demand.rate_rps


def _some(told: list[str]) -> str:
    return ", ".join(told[:TOLD]) + (f" and {len(told) - TOLD} more" if len(told) > TOLD else "")


def _rps(rate_rps: float) -> str:
    return f"{rate_rps:.4g}" if rate_rps < 1e4 else f"{rate_rps:.0f}"


def _time(seconds: float) -> str:
    return show_s(seconds) if seconds < math.inf else "without end"


def _rows(estimate: Estimate, placement: Placement) -> Iterator[tuple[str, ...]]:
    """A row for each LLM of each unit; equal units, which lie beside each other, are told once, with the devices of the first."""
    yield "unit", "mesh", "model", "tp", "devices", "SM share", "requests/s", "of", "headroom", "batch", "TTFT", "time per token"
    at = 0
    for plan, equal in itertools.groupby(placement.units, key=_unnumbered):
        units = list(equal)
        unit, first, at = units[0], at, at + len(units)
        found = estimate(plan)
        held = sum(model.blocks for model in found.models.values())
        for placed in unit.members:
            model = found.models[placed.model]
            yield (
                str(first) if at == first + 1 else f"{first}-{at - 1}",
                f"{unit.devices} {placement.chip(unit)}" if len(placement.chips) > 1 else str(unit.devices),
                placed.model,
                str(placed.tp),
                ",".join(map(str, unit.numbers(placed))) + (" .." if len(units) > 1 else ""),
                f"{placed.sm_share:.0%}",
                f"{model.throughput_rps:.3g}",
                f"{placed.rate_rps:.3g}",
                f"{1 - held / found.total_blocks:.0%} of blocks",
                f"{model.batch:.1f}",
                show_s(model.ttft_s),
                show_s(model.tpot_s),
            )
