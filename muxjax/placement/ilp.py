"""The exact optimum of equation 1 as an integer linear program.

The objective F of a unit is no linear function of who is in it, but a number for each unit's contents. So all contents that a mesh could
have are *columns*, each with its F, worked out beforehand, and the program chooses how many units of each column there are. That is
linear, and exact:

    maximise    sum over columns c of F_c x_c
    subject to  for each LLM m, number of parts p:  sum over columns with (m, p) of x_c  =  p z_mp
                for each LLM m:                     sum over p of z_mp  =  1
                for each mesh size s:               devices in meshes of size s or larger  <=  room for those in the nodes
                x_c a whole number, z_mp 0 or 1

The number of columns grows exponentially with the LLMs in a unit, at most `most_members`.
"""

import itertools
from collections.abc import Iterator, Mapping

import pulp

from muxjax.errors import ConfigError
from muxjax.placement.candidates import Candidates
from muxjax.placement.cluster import mesh_sizes, room
from muxjax.placement.objective import NO_UNIT, Member, Objective, UnitContents, Units
from muxjax.placement.problem import Problem


def optimum(
    problem: Problem, objective: Objective, candidates: Candidates, *, most_parts: int = 1, most_members: int | None = None
) -> Units | None:
    """The state of most throughput, without empty units; None if the LLMs do not fit.

    Raises:
      ConfigError: the solver ended without an answer.
    """
    columns = tuple(_columns(problem, objective, candidates, most_parts, most_members or len(problem.demands)))
    program = pulp.LpProblem("placement", pulp.LpMaximize)
    units = {column: program.add_variable(f"x{i}", lowBound=0, cat="Integer") for i, column in enumerate(columns)}
    program += pulp.lpSum(objective.of(column) * x for column, x in units.items())
    _cover(program, problem, units, most_parts)
    for size in mesh_sizes(problem.cluster):
        program += pulp.lpSum(column.devices * x for column, x in units.items() if column.devices >= size) <= room(problem.cluster, size)
    status = program.solve(pulp.PULP_CBC_CMD(msg=False, gapRel=0, threads=1))
    if status == pulp.LpStatusInfeasible:
        return None
    if status != pulp.LpStatusOptimal:
        raise ConfigError(f"the solver ended without an answer: {pulp.LpStatus[status]}")
    return tuple(column for column, x in units.items() for _ in range(round(x.value() or 0)))


def _cover(program: pulp.LpProblem, problem: Problem, units: Mapping[UnitContents, pulp.LpVariable], most_parts: int) -> None:
    """Each LLM is served in one number of parts, and by all of them."""
    holding: dict[tuple[str, int], list[pulp.LpVariable]] = {}
    for column, x in units.items():
        for member in column.members:
            holding.setdefault((member.model, member.parts), []).append(x)
    for number, demand in enumerate(problem.demands):
        chosen = [program.add_variable(f"z{number}_{parts}", cat="Binary") for parts in range(1, most_parts + 1)]
        program += pulp.lpSum(chosen) == 1
        for parts, z in enumerate(chosen, start=1):
            program += pulp.lpSum(holding.get((demand.name, parts), [])) == parts * z


def _columns(problem: Problem, objective: Objective, candidates: Candidates, most_parts: int, most_members: int) -> Iterator[UnitContents]:
    """Contents that a unit could have: for each mesh size and set of LLMs the best choice of degrees."""
    names = sorted(demand.name for demand in problem.demands)
    choices = [(model, parts) for model in names for parts in range(1, most_parts + 1)]
    for size in mesh_sizes(problem.cluster):
        for count in range(1, min(most_members, len(names)) + 1):
            for chosen in itertools.combinations(choices, count):
                if len({model for model, _ in chosen}) == count:
                    best = max(_degrees(size, chosen, candidates), key=objective.of, default=None)
                    if best is not None and objective.of(best) > NO_UNIT:
                        yield best


def _degrees(size: int, chosen: tuple[tuple[str, int], ...], candidates: Candidates) -> Iterator[UnitContents]:
    """A mesh with these LLMs, in every combination of their degrees."""
    ways = [[Member(model, parts, one.tp) for one in candidates.of(model, parts) if one.tp <= size] for model, parts in chosen]
    for members in itertools.product(*ways):
        yield UnitContents(size, tuple(sorted(members)))
