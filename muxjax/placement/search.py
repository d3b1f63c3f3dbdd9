"""A search over placements: insert an LLM where it adds most; then change a few units at a time while that is worth more."""

import heapq
from collections.abc import Callable, Iterator

from muxjax.placement.candidates import Candidates
from muxjax.placement.cluster import Mesh
from muxjax.placement.objective import NO_UNIT, Member, Objective, UnitContents
from muxjax.placement.state import State

EQUAL = 1e-9
"""Relative difference of worths below which they count as equal: sums in another order."""
WIDTH = 3
"""Ways to place an LLM on equal meshes, the least loaded ones with room for it, that are looked at."""
IDLE_MOVES = 25
"""Moves that a climb tries, for each state that it may look at: most have none to show."""

Move = Callable[[State], Iterator[State]]
"""The states that are one change away, the likeliest first."""


def insert(
    state: State, model: str, count: int, objective: Objective, candidates: Candidates, *, of: float = 0, whole: bool = False
) -> State | None:
    """With so many replicas of an LLM, each where it adds most; of equals, where the least load is. None where there is no room.

    Args:
      of: replicas in all, if others are there already.
      whole: none is inserted where not all that is asked, of it and of those there, would be served.
    Meshes are looked at by load: the first one that serves the whole rate ends the search, since none can add more. What is best for
    one replica is best for the next, while there are units of those contents. None adds more than it is worth alone.
    """
    parts = of or count
    while count:
        best = _best_way(state, model, parts, objective, candidates)
        if best is None or (whole and objective.short(best[1])):
            return None
        times = min(count, state.count(best[0]))
        state, count = state.replaced(*best, times=times), count - times
    return state


def _best_way(
    state: State, model: str, parts: float, objective: Objective, candidates: Candidates
) -> tuple[UnitContents, UnitContents] | None:
    """Contents of a unit before and after one replica more, where that adds most; None where there is no room."""
    best, best_gain, most = None, NO_UNIT, objective.most(model, parts) * (1 - EQUAL)
    waiting = _by_load(state, model, objective)
    alone = {
        (one.tp, pool): objective.alone(model, parts, one.in_time_rps)
        for pool in {mesh.pool for mesh in waiting}
        for one in candidates.of(model, parts, pool)
    }
    added = objective.demanded(Member(model, parts, 1))
    share = {mesh: added / objective.speed(mesh) for mesh in waiting}
    seen = dict.fromkeys(waiting, 0)
    while waiting and best_gain < most:
        mesh = min(waiting, key=lambda mesh: waiting[mesh][0][0] + share[mesh])
        _, before = heapq.heappop(waiting[mesh])
        for tp in candidates.degrees(model, mesh, parts):
            if seen[mesh] >= WIDTH or alone[tp, mesh.pool] <= best_gain + EQUAL * abs(best_gain):
                continue
            after = before.plus(Member(model, parts, tp))
            gain = objective.of(after) - objective.of(before)
            seen[mesh] += gain > NO_UNIT
            if gain > NO_UNIT and (best is None or gain > best_gain + EQUAL * abs(best_gain)):
                best, best_gain = (before, after), gain
                if gain >= most:
                    break
        if seen[mesh] >= WIDTH or not waiting[mesh]:
            del waiting[mesh]
    return best


def _by_load(state: State, model: str, objective: Objective) -> dict[Mesh, list[tuple[float, UnitContents]]]:
    """Contents without that LLM, equal ones once: by their mesh a heap, the least loaded first."""
    waiting: dict[Mesh, list[tuple[float, UnitContents]]] = {}
    for contents in state.different:
        if not contents.holds(model):
            waiting.setdefault(contents.mesh, []).append((objective.load(contents), contents))
    for heap in waiting.values():
        heapq.heapify(heap)
    return waiting


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
