"""A search over placements: insert an LLM where it adds most; then change a few units at a time while that is worth more."""

from collections.abc import Callable, Iterator

from muxjax.placement.candidates import Candidates
from muxjax.placement.objective import NO_UNIT, Member, Objective, UnitContents
from muxjax.placement.state import State

EQUAL = 1e-9
"""Relative difference of worths below which they count as equal: sums in another order."""
WIDTH = 3
"""Ways to place an LLM on meshes of one size, the least loaded ones with room for it, that are looked at."""
IDLE_MOVES = 25
"""Moves that a climb tries, for each state that it may look at: most have none to show."""

Move = Callable[[State], Iterator[State]]
"""The states that are one change away, the likeliest first."""


def insert(state: State, model: str, count: int, objective: Objective, candidates: Candidates, *, of: float = 0) -> State | None:
    """With so many replicas of an LLM, each where it adds most; of equals, where the least load is. None where there is no room.

    Args:
      of: replicas in all, if others are there already.
    Meshes are looked at by load: the first one that serves the whole rate ends the search, since none can add more. What is best for
    one replica is best for the next, while there are units of those contents. None adds more than it is worth alone.
    """
    parts = of or count
    alone = {candidate.tp: objective.alone(model, parts, candidate.in_time_rps) for candidate in candidates.of(model, parts)}
    while count:
        best, best_gain = None, NO_UNIT
        seen: dict[int, int] = {}
        for before, tp in _ways(state, model, parts, objective, candidates):
            if seen.get(before.devices, 0) >= WIDTH or alone[tp] <= best_gain + EQUAL * abs(best_gain):
                continue
            after = before.plus(Member(model, parts, tp))
            if objective.of(after) == NO_UNIT:
                continue
            seen[before.devices] = seen.get(before.devices, 0) + 1
            gain = objective.of(after) - objective.of(before)
            if best is None or gain > best_gain + EQUAL * abs(best_gain):
                best, best_gain = (before, after), gain
            if gain >= objective.most(model, parts) * (1 - EQUAL):
                break
        if best is None:
            return None
        times = min(count, state.count(best[0]))
        state, count = state.replaced(*best, times=times), count - times
    return state


def climb(state: State, moves: list[Move], objective: Objective, *, looks: int, go_on: Callable[[], bool] = lambda: True) -> State:
    """A settled state that no move betters, or the best one when so many others have been looked at, or it may not go on.

    Each move is taken as soon as it is worth more, and the next one goes on from there.
    """
    state = state.settled()
    least_gain = EQUAL * state.total(objective)
    unchanged, idle = 0, IDLE_MOVES * looks
    while unchanged < len(moves) and idle > 0:
        for move in moves:
            unchanged += 1
            idle -= 1
            for other in move(state):
                looks -= 1
                if other.gain(objective) > least_gain:
                    state, unchanged = other.settled(), 0
                    break
                if looks <= 0 or not go_on():
                    return state
            if unchanged == len(moves) or idle <= 0:
                break
    return state


def _ways(state: State, model: str, parts: float, objective: Objective, candidates: Candidates) -> list[tuple[UnitContents, int]]:
    """Contents that could take one more replica, and its degrees there, by load a device; equal contents once."""
    added = objective.load(UnitContents(1, (Member(model, parts, 1),)))
    open_to_it = (contents for contents in state.different if not contents.holds(model))
    by_load = sorted(open_to_it, key=lambda contents: (objective.load(contents) + added / contents.devices, contents))
    return [(contents, tp) for contents in by_load for tp in candidates.degrees(model, contents.devices, parts)]
