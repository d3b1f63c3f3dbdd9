"""The limits that every placement keeps, whoever made it."""

import math
from collections import Counter
from collections.abc import Iterator

from muxjax.cache.layout import BLOCK_BYTES
from muxjax.cost.roofline import Roofline, weight_bytes
from muxjax.errors import ConfigError
from muxjax.placement.cluster import Mesh, mesh_sizes, packs
from muxjax.placement.estimate.curves import sequence_blocks
from muxjax.placement.estimate.estimator import estimate
from muxjax.placement.problem import Cluster, Demand, Placement, Problem, UnitPlan

RATE_ERROR = 1e-6
"""Relative, of the sum of the replicas' rates."""


def violations(problem: Problem, placement: Placement) -> list[str]:
    """Limits that the placement breaks: what, where and by how much; empty if it may be used."""
    demands = {demand.name: demand for demand in problem.demands}
    if len(placement.units) > problem.cluster.devices:
        return [f"{len(placement.units)} units have no device each, the cluster has {problem.cluster.devices}"]
    if faults := list(_pools(problem.cluster, placement)):
        return faults
    faults = [*_demand(problem, placement), *_packing(problem.cluster, placement), *_numbers(problem.cluster, placement)]
    for i, unit in enumerate(placement.units):
        broken = [*_members(f"unit {i}", unit, demands), *_degrees(f"unit {i}", unit, demands)]
        broken = broken or list(_memory(f"unit {i}", unit, problem, demands))
        faults += broken or _fairness(f"unit {i}", unit, problem)
    return faults


def _demand(problem: Problem, placement: Placement) -> Iterator[str]:
    """Every LLM is placed, and the rates of its replicas sum to its demand."""
    rates: dict[str, list[float]] = {}
    for unit in placement.units:
        for placed in unit.members:
            rates.setdefault(placed.model, []).append(placed.rate_rps)
    for demand in problem.demands:
        if demand.name not in rates:
            yield f"{demand.name} is in no unit"
        elif not math.isclose(total := sum(rates[demand.name]), demand.rate_rps, rel_tol=RATE_ERROR):
            yield f"the replicas of {demand.name} serve {total:g} requests/s, its demand is {demand.rate_rps:g}"


def _pools(cluster: Cluster, placement: Placement) -> Iterator[str]:
    """Units lie in pools that there are, and these have the devices that the placement was made for."""
    for i, unit in enumerate(placement.units):
        if not 0 <= unit.pool < len(cluster.pools):
            yield f"unit {i} lies in pool {unit.pool} of the cluster, which has {len(cluster.pools)}, counted from 0"
    for at in sorted({unit.pool for unit in placement.units} & set(range(len(cluster.pools)))):
        made_for, has = placement.chip(UnitPlan(devices=1, pool=at)), cluster.pools[at].chip.name
        if made_for not in ("", has):
            yield f"pool {at} of the placement is of {made_for}, that of the cluster of {has}"


def _packing(cluster: Cluster, placement: Placement) -> Iterator[str]:
    """Meshes are such as a node can be cut into, and lie within nodes, side by side."""
    for at, pool in enumerate(cluster.pools):
        group = sorted((unit.devices for unit in placement.units if unit.pool == at), reverse=True)
        sizes, nodes = mesh_sizes(pool), f"{pool.nodes} nodes of {pool.devices_per_node}"
        if odd := sorted({*group} - {*sizes}):
            for size in odd:
                yield f"a mesh of {size} devices does not lie in a node of {pool.devices_per_node}, whose meshes have {list(sizes)} devices"
        elif not packs((Mesh(size, at) for size in group), cluster):
            yield f"meshes of {group} devices do not lie side by side in {nodes}"


def _numbers(cluster: Cluster, placement: Placement) -> Iterator[str]:
    """Meshes whose devices are numbered lie in one node each, and share none."""
    end = -math.inf
    numbered = ((unit.first_device, unit.devices, unit.pool) for unit in placement.units if unit.first_device is not None)
    for first, size, at in sorted(numbered):
        pool, begin = cluster.pools[at], cluster.first(at)
        last, per_node = first + size - 1, pool.devices_per_node
        if first < end:
            yield f"device {first} is in two meshes"
        if not begin <= first <= last < begin + pool.there or (first - begin) // per_node != (last - begin) // per_node:
            yield f"a mesh of devices {first} to {last} lies in none of {pool.nodes} nodes of {per_node} devices"
        end = max(end, last + 1)


def _members(where: str, unit: UnitPlan, demands: dict[str, Demand]) -> Iterator[str]:
    """LLMs are known, once each in a unit, and on devices of its mesh."""
    for model, count in Counter(placed.model for placed in unit.members).items():
        if model not in demands:
            yield f"{where}: {model} is none of the problem's models"
        if count > 1:
            yield f"{where}: {model} is there {count} times, once is allowed"
    for placed in unit.members:
        inside = all(0 <= device < unit.devices for device in placed.devices)
        if not placed.devices or len(set(placed.devices)) != placed.tp or not inside:
            yield f"{where}: {placed.model} is on devices {list(placed.devices)}, which must be different ones of 0 to {unit.devices - 1}"
        if not 0 < placed.rate_rps < math.inf:
            yield f"{where}: {placed.model} has a rate of {placed.rate_rps:g} requests/s, which must be over 0 and finite"
        if not 0 < placed.sm_share <= 1:
            yield f"{where}: {placed.model} has an SM share of {placed.sm_share:g}, which must be over 0, to 1"


def _degrees(where: str, unit: UnitPlan, demands: dict[str, Demand]) -> Iterator[str]:
    """Models split into their degrees, which are powers of two."""
    for placed in unit.members:
        demand, tp = demands.get(placed.model), placed.tp
        if not demand or not tp:
            continue
        try:
            demand.spec.require_split(tp)
        except ConfigError as error:
            yield f"{where}: {placed.model}: {error}"
        if tp & (tp - 1):
            yield f"{where}: tensor parallelism {tp} of {placed.model} is no power of two"


def _memory(where: str, unit: UnitPlan, problem: Problem, demands: dict[str, Demand]) -> Iterator[str]:
    """Weights, and a sequence of any LLM there, fit on each device."""
    have_bytes = problem.device_bytes(unit.pool)
    for device in sorted({device for placed in unit.members for device in placed.devices}):
        members = [placed for placed in unit.members if device in placed.devices]
        try:
            need_bytes = _need_bytes(problem, [(demands[placed.model], placed.tp) for placed in members], unit.pool)
        except ConfigError as error:
            yield f"{where}: {error}"
            return
        if need_bytes > have_bytes:
            names = ", ".join(placed.model for placed in members)
            yield (
                f"{where}: weights and a sequence of {names} need {need_bytes} bytes of device {device}, "
                f"{need_bytes - have_bytes} more than the {have_bytes} there"
            )


def _need_bytes(problem: Problem, members: list[tuple[Demand, int]], pool: int) -> int:
    """Bytes of a device with those LLMs, of those degrees."""
    weights = sum(weight_bytes(demand.spec, problem.mesh(demand, tp, pool)) for demand, tp in members)
    return weights + BLOCK_BYTES * max((sequence_blocks(demand, tp) for demand, tp in members), default=0)


def _fairness(where: str, unit: UnitPlan, problem: Problem) -> list[str]:
    """No two LLMs differ by more than the bound of equation 2."""
    if not unit.members or problem.fairness == math.inf:
        return []
    unfairness = estimate(problem, Roofline(), unit).unfairness
    if unfairness <= problem.fairness:
        return []
    return [f"{where}: two LLMs' shares of head blocks differ by {unfairness:.3g}, the bound is {problem.fairness:g}"]
