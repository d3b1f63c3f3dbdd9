"""A search over placements: insert an LLM where it adds most; then change a few units at a time while that serves more."""

from collections.abc import Callable, Iterator

from muxjax.placement.candidates import Candidates
from muxjax.placement.objective import NO_UNIT, Member, Objective, UnitContents

State = tuple[UnitContents, ...]
"""The units of a cluster, empty ones included."""
EQUAL = 1e-9
"""Relative difference of throughputs below which they count as equal: sums in another order."""
WIDTH = 3
"""Ways to place an LLM on meshes of one size, the least loaded ones with room for it, that are looked at."""

Move = Callable[[State], Iterator[State]]
"""The states that are one change away, the likeliest first."""


def insert(state: State, model: str, count: int, objective: Objective, candidates: Candidates, *, of: int = 0) -> State | None:
    """With so many replicas of an LLM, each where it adds most; of equals, where the least load is. None where there is no room.

    Args:
      of: replicas in all, if others are there already.
    Meshes are looked at by load: the first one that serves the whole rate ends the search, since none can add more.
    """
    parts = of or count
    for _ in range(count):
        best, best_gain = None, NO_UNIT
        seen: dict[int, int] = {}
        for before, tp in _ways(state, model, parts, objective, candidates):
            if seen.get(before.devices, 0) >= WIDTH:
                continue
            after = before.plus(Member(model, parts, tp))
            if objective.of(after) == NO_UNIT:
                continue
            seen[before.devices] = seen.get(before.devices, 0) + 1
            gain = objective.of(after) - objective.of(before)
            if best is None or gain > best_gain + EQUAL * abs(best_gain):
                best, best_gain = (before, after), gain
            if gain >= objective.demands[model].rate_rps / parts * (1 - EQUAL):
                break
        if best is None:
            return None
        state = replaced(state, *best)
    return state


def climb(state: State, moves: list[Move], objective: Objective, *, looks: int) -> State:
    """A state that no move betters, or the best one when so many others have been looked at.

    Each move is taken as soon as it serves more, and the next one goes on from there.
    """
    least_gain = EQUAL * objective.total(state)
    unchanged = 0
    while unchanged < len(moves):
        for move in moves:
            unchanged += 1
            for other in move(state):
                looks -= 1
                if gain(state, other, objective) > least_gain:
                    state, unchanged = other, 0
                    break
                if looks <= 0:
                    return state
            if unchanged == len(moves):
                break
    return state


def gain(state: State, other: State, objective: Objective) -> float:
    """Requests a second that the other state serves more."""
    if len(state) != len(other):
        return objective.total(other) - objective.total(state)
    return sum(objective.of(after) - objective.of(before) for before, after in zip(state, other, strict=True) if before is not after)


def replaced(state: State, before: UnitContents, *after: UnitContents) -> State:
    """The state with one unit of those contents changed, or cut into several."""
    place = state.index(before)
    return (*state[:place], *after, *state[place + 1 :])


def _ways(state: State, model: str, parts: int, objective: Objective, candidates: Candidates) -> list[tuple[UnitContents, int]]:
    """Contents that could take one more replica, and its degrees there, by load a device; equal contents once."""
    added = objective.load(UnitContents(1, (Member(model, parts, 1),)))
    open_to_it = (contents for contents in {*state} if not contents.holds(model))
    by_load = sorted(open_to_it, key=lambda contents: (objective.load(contents) + added / contents.devices, contents))
    return [(contents, tp) for contents in by_load for tp in candidates.degrees(model, contents.devices, parts)]
