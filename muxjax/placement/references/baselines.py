"""Baselines of a placer, on one pool: placements that do without multiplexing, or without looking at load."""

from muxjax.errors import ConfigError, require
from muxjax.placement.candidates import Candidates
from muxjax.placement.cluster import Mesh, MeshGroup, few_groups, in_order, packs
from muxjax.placement.objective import NO_UNIT, Member, Objective, UnitContents, Units
from muxjax.placement.problem import Placement, Pool, Problem

_MOST_GROUPS = 64


def memory_greedy(problem: Problem, objective: Objective, candidates: Candidates) -> Placement:
    """The LLMs by size, descending, each over all devices of the mesh with the most free memory a device; the best mesh group that way.

    Raises:
      ConfigError: the LLMs do not fit that way.
    """
    _only_pool(problem)
    groups, _ = few_groups(problem.cluster, _MOST_GROUPS)
    states = [_fill_memory(group, objective, candidates) for group in groups]
    best = max(filter(None, states), key=objective.total, default=None)
    if best is None or objective.total(best) == NO_UNIT:
        raise ConfigError("the models do not fit when each goes where the most memory is free", field="models")
    return objective.placement(best)


def spatial_blind(problem: Problem, objective: Objective, candidates: Candidates) -> Placement:
    """One LLM a mesh, popularity ignored: what weights need, then twice as much, most weights a device first, while there is room.

    Raises:
      ConfigError: there are too few devices for one mesh each.
    """

    def next_to_grow(meshes: dict[str, int], open_to_it: list[str]) -> str | None:
        return min(open_to_it, key=lambda model: (-objective.demands[model].spec.params / meshes[model], model), default=None)

    return _spatial(problem, objective, candidates, next_to_grow)


def spatial_aware(problem: Problem, objective: Objective, candidates: Candidates) -> Placement:
    """One LLM a mesh, devices by demand: what their weights need, then twice as much where a further device adds most, while it adds.

    Raises:
      ConfigError: there are too few devices for one mesh each.
    """

    def next_to_grow(meshes: dict[str, int], open_to_it: list[str]) -> str | None:
        def gain(model: str) -> float:
            before, after = (objective.of(_alone(model, devices, candidates)) for devices in (meshes[model], 2 * meshes[model]))
            return (after - before) / meshes[model]

        best = min(open_to_it, key=lambda model: (-gain(model), model), default=None)
        return best if best is not None and gain(best) > 0 else None

    return _spatial(problem, objective, candidates, next_to_grow)


def _fill_memory(group: MeshGroup, objective: Objective, candidates: Candidates) -> Units | None:
    state = list(map(UnitContents, group))
    for model in sorted(objective.demands, key=lambda model: (-objective.demands[model].spec.params, model)):
        for contents in sorted(state, key=lambda contents: (_weights(contents, objective) / contents.mesh.devices, contents)):
            degrees = candidates.degrees(model, contents.mesh)
            if degrees and objective.of(contents.plus(Member(model, 1, degrees[0]))) > NO_UNIT:
                state[state.index(contents)] = contents.plus(Member(model, 1, degrees[0]))
                break
        else:
            return None
    return tuple(state)


def _weights(contents: UnitContents, objective: Objective) -> float:
    return sum(objective.demands[member.model].spec.params for member in contents.members)


def _spatial(problem: Problem, objective: Objective, candidates: Candidates, next_to_grow) -> Placement:
    """One LLM a mesh: the least that holds each, then meshes double as next_to_grow(devices by LLM, those that can grow) tells."""
    pool = _only_pool(problem)
    meshes = {model: candidates.of(model)[0].tp for model in sorted(objective.demands)}
    if not packs(_group(meshes), problem.cluster):
        raise ConfigError(
            f"one mesh for each model needs {sum(meshes.values())} devices in nodes of {pool.devices_per_node}, "
            f"and there are {problem.cluster.devices}",
            field="models",
        )
    while True:
        grown = {
            model: meshes | {model: 2 * devices}
            for model, devices in meshes.items()
            if any(candidate.tp == 2 * devices for candidate in candidates.of(model))
        }
        model = next_to_grow(meshes, [model for model, after in grown.items() if packs(_group(after), problem.cluster)])
        if model is None:
            return objective.placement(_alone(model, devices, candidates) for model, devices in meshes.items())
        meshes = grown[model]


def _alone(model: str, devices: int, candidates: Candidates) -> UnitContents:
    """A mesh for one LLM, over as many of its devices as can be."""
    return UnitContents(Mesh(devices), (Member(model, 1, candidates.degrees(model, Mesh(devices))[0]),))


def _group(meshes: dict[str, int]) -> MeshGroup:
    return in_order(map(Mesh, meshes.values()))


def _only_pool(problem: Problem) -> Pool:
    """Raises ConfigError: there are several."""
    pools = problem.cluster.pools
    require(len(pools) == 1, "cluster", f"{len(pools)} kinds of nodes", "one kind for a baseline")
    return pools[0]
