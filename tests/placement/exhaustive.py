"""The best placement of a tiny problem, by looking at all of them."""

import itertools
from collections.abc import Iterator

from muxjax.placement.candidates import Candidates
from muxjax.placement.cluster import MeshGroup, mesh_groups
from muxjax.placement.objective import NO_UNIT, Member, Objective, UnitContents, Units
from muxjax.placement.problem import Problem


def best_of_all(problem: Problem, objective: Objective, candidates: Candidates, *, most_parts: int = 1) -> Units | None:
    """The state of most throughput, of every mesh group, number of replicas, distribution and degree; None if nothing fits.

    Time grows as (meshes x degrees) ^ (LLMs x replicas): for about 5 LLMs on 4 devices.
    """
    best, best_rps = None, NO_UNIT
    names = [demand.name for demand in problem.demands]
    for group in mesh_groups(problem.cluster):
        for parts in itertools.product(range(1, most_parts + 1), repeat=len(names)):
            for state in _states(group, list(zip(names, parts, strict=True)), candidates):
                if objective.total(state) > best_rps:
                    best, best_rps = state, objective.total(state)
    return best


def _states(group: MeshGroup, models: list[tuple[str, int]], candidates: Candidates) -> Iterator[Units]:
    """All ways to put these LLMs, in so many parts each, on the meshes of the group."""
    if not models:
        yield tuple(map(UnitContents, group))
        return
    (model, parts), rest = models[0], models[1:]
    for state in _states(group, rest, candidates):
        for meshes in itertools.combinations(range(len(state)), parts):
            ways = [_ways(state[at], model, parts, candidates) for at in meshes]
            for chosen in itertools.product(*ways):
                after = dict(zip(meshes, chosen, strict=True))
                yield tuple(after.get(at, contents) for at, contents in enumerate(state))


def _ways(contents: UnitContents, model: str, parts: int, candidates: Candidates) -> list[UnitContents]:
    """With that replica, of every degree."""
    return [contents.plus(Member(model, parts, one.tp)) for one in candidates.on(model, contents.mesh, parts)]
