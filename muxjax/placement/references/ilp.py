"""The exact optimum of equation 1 as an integer linear program.

The objective F of a unit is no linear function of who is in it, but a number for each unit's contents. So all contents that a mesh could
have are *columns*, each with its F, worked out beforehand, and the program chooses how many units of each column there are. That is
linear, and exact:

    maximise    sum over columns c of F_c x_c
    subject to  for each LLM m, part p of its rate:  sum over columns with (m, p) of x_c  =  sum over splits s of (how often p is in s) z_ms
                for each LLM m:                     sum over s of z_ms  =  1
                for each pool and mesh size s:      devices in meshes of size s or larger  <=  room for those in the nodes
                x_c a whole number, z_ms 0 or 1

The number of columns grows exponentially with the LLMs in a unit, at most `most_members`.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import pulp

from muxjax.errors import ConfigError
from muxjax.placement.candidates import Candidates
from muxjax.placement.cluster import Mesh, mesh_sizes, room
from muxjax.placement.objective import NO_UNIT, Member, Objective, UnitContents, Units
from muxjax.placement.problem import Problem

Split = tuple[float, ...]
"""The parts in which an LLM's rate is served, each as the whole over it: (2, 4, 4) for a half and two quarters."""


def splits(most_parts: int, grain: int = 1) -> list[Split]:
    """Even ones of at most so many replicas, and those whose parts are multiples of 1 / grain."""
    shares = (itertools.combinations_with_replacement(range(1, grain + 1), parts) for parts in range(1, most_parts + 1))
    uneven = {tuple(grain / share for share in split) for split in itertools.chain(*shares) if sum(split) == grain}
    return sorted(uneven | {(float(parts),) * parts for parts in range(1, most_parts + 1)})


def optimum(
    problem: Problem,
    objective: Objective,
    candidates: Candidates,
    *,
    most_parts: int = 1,
    grain: int = 1,
    most_members: int | None = None,
) -> Units | None:
    """The state of most throughput, without empty units; None if the LLMs do not fit.

    Args:
      most_parts, grain: of the splits that an LLM's rate may have.
    Raises:
      ConfigError: the solver ended without an answer.
    """
    ways = splits(most_parts, grain)
    columns = tuple(_columns(problem, objective, candidates, _parts(ways), most_members or len(problem.demands)))
    program = pulp.LpProblem("placement", pulp.LpMaximize)
    units = {column: program.add_variable(f"x{i}", lowBound=0, cat="Integer") for i, column in enumerate(columns)}
    program += pulp.lpSum(objective.of(column) * x for column, x in units.items())
    _cover(program, problem, units, ways)
    for at, pool in enumerate(problem.cluster.pools):
        for size in mesh_sizes(pool):
            larger = [column.mesh.devices * x for column, x in units.items() if column.mesh.pool == at and column.mesh.devices >= size]
            program += pulp.lpSum(larger) <= room(pool, size)
    status = program.solve(pulp.PULP_CBC_CMD(msg=False, gapRel=0, threads=1))
    if status == pulp.LpStatusInfeasible:
        return None
    if status != pulp.LpStatusOptimal:
        raise ConfigError(f"the solver ended without an answer: {pulp.LpStatus[status]}")
    return tuple(column for column, x in units.items() for _ in range(round(x.value() or 0)))


def _cover(program: pulp.LpProblem, problem: Problem, units: Mapping[UnitContents, pulp.LpVariable], ways: Sequence[Split]) -> None:
    """Each LLM is served in one split, and by all of its parts."""
    holding: dict[tuple[str, float], list[pulp.LpVariable]] = {}
    for column, x in units.items():
        for member in column.members:
            holding.setdefault((member.model, member.parts), []).append(x)
    for number, demand in enumerate(problem.demands):
        chosen = [program.add_variable(f"z{number}_{i}", cat="Binary") for i in range(len(ways))]
        program += pulp.lpSum(chosen) == 1
        for parts in _parts(ways):
            needed = pulp.lpSum(split.count(parts) * z for split, z in zip(ways, chosen, strict=True))
            program += pulp.lpSum(holding.get((demand.name, parts), [])) == needed


def _parts(ways: Sequence[Split]) -> list[float]:
    """Those of all splits, each once."""
    return sorted({*itertools.chain(*ways)})


def _columns(
    problem: Problem, objective: Objective, candidates: Candidates, all_parts: Sequence[float], most_members: int
) -> Iterator[UnitContents]:
    """Contents that a unit could have: for each mesh size and set of LLMs the best choice of degrees."""
    names = sorted(demand.name for demand in problem.demands)
    choices = [(model, parts) for model in names for parts in all_parts]
    meshes = [Mesh(size, at) for at, pool in enumerate(problem.cluster.pools) for size in mesh_sizes(pool)]
    for mesh in meshes:
        for count in range(1, min(most_members, len(names)) + 1):
            for chosen in itertools.combinations(choices, count):
                if len({model for model, _ in chosen}) == count:
                    best = max(_degrees(mesh, chosen, candidates), key=objective.of, default=None)
                    if best is not None and objective.of(best) > NO_UNIT:
                        yield best


def _degrees(mesh: Mesh, chosen: tuple[tuple[str, float], ...], candidates: Candidates) -> Iterator[UnitContents]:
    """A mesh with these LLMs, in every combination of their degrees."""
    ways = [[Member(model, parts, one.tp) for one in candidates.on(model, mesh, parts)] for model, parts in chosen]
    for members in itertools.product(*ways):
        yield UnitContents(mesh, tuple(sorted(members)))
