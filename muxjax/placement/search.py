"""Steps of a search over placements: insert an LLM where it adds most; take one out and insert it again, or swap two, while that helps."""

import itertools
from collections.abc import Iterator

from muxjax.placement.candidates import Candidates
from muxjax.placement.worth import NO_UNIT, Content, Member, Worth

State = tuple[Content, ...]
"""The units of a cluster, empty ones included."""
EQUAL = 1e-9
"""Relative difference of throughputs below which they count as equal: sums in another order."""
WIDTH = 8
"""Meshes of a size, the least loaded ones, that an LLM is tried on."""


def insert(state: State, model: str, parts: int, worth: Worth, candidates: Candidates) -> State | None:
    """With so many replicas of an LLM, each where it adds most; of equals, where the least load is. None where there is no room.

    Meshes are looked at by load: the first one that serves the whole rate ends the search, since none can add more.
    """
    for _ in range(parts):
        best, best_gain = None, NO_UNIT
        for before, after in _ways(state, model, parts, worth, candidates):
            gain = worth.of(after) - worth.of(before)
            if gain > NO_UNIT and (best is None or gain > best_gain + EQUAL * abs(best_gain)):
                best, best_gain = (before, after), gain
            if gain >= worth.demands[model].rate_rps / parts * (1 - EQUAL):
                break
        if best is None:
            return None
        state = _replaced(state, *best)
    return state


def polish(state: State, worth: Worth, candidates: Candidates, *, most_parts: int, most_asked: int) -> State:
    """A local optimum: no LLM serves more elsewhere or as one replica more or fewer, and no two that change places.

    Ends early when `worth` has estimated most_asked units.
    """
    while True:
        better = _improved(state, _neighbours(state, worth, candidates, most_parts), worth, most_asked)
        if better is None:
            return state
        state = better


def _improved(state: State, changed: Iterator[State], worth: Worth, most_asked: int) -> State | None:
    """The first of the changed ones that is better."""
    total = worth.total(state)
    for other in changed:
        if worth.total(other) > total * (1 + EQUAL):
            return other
        if worth.asked >= most_asked:
            return None
    return None


def _neighbours(state: State, worth: Worth, candidates: Candidates, most_parts: int) -> Iterator[State]:
    yield from _reinserted(state, worth, candidates, most_parts)
    yield from _swapped(state, worth, candidates)


def _reinserted(state: State, worth: Worth, candidates: Candidates, most_parts: int) -> Iterator[State]:
    parts = {member.model: member.parts for content in state for member in content.members}
    for model in sorted(parts):
        rest = tuple(content.without(model) for content in state)
        for count in (parts[model], parts[model] + 1, parts[model] - 1):
            if 1 <= count <= min(most_parts, len(state)):
                other = insert(rest, model, count, worth, candidates)
                if other is not None:
                    yield other


def _swapped(state: State, worth: Worth, candidates: Candidates) -> Iterator[State]:
    for one, other in itertools.combinations(sorted({content for content in state if content.members}), 2):
        for left, right in itertools.product(one.members, other.members):
            if left.model == right.model or one.holds(right.model) or other.holds(left.model):
                continue
            for new_left, new_right in itertools.product(
                _with(one.without(left.model), right, candidates), _with(other.without(right.model), left, candidates)
            ):
                yield _replaced(_replaced(state, one, new_left), other, new_right)


def _with(content: Content, member: Member, candidates: Candidates) -> list[Content]:
    """With that replica, of each degree that is worth trying."""
    degrees = candidates.degrees(member.model, content.devices, member.parts)
    return [content.plus(member._replace(tp=tp)) for tp in degrees]


def _ways(state: State, model: str, parts: int, worth: Worth, candidates: Candidates) -> list[tuple[Content, Content]]:
    """Contents before and after one more replica, by load a device; equal contents once, the least loaded ones of each size."""
    open_to_it = sorted({(_load(content, worth), content) for content in state if not content.holds(model)})
    of_size: dict[int, int] = {}
    ways = []
    for _, content in open_to_it:
        of_size[content.devices] = of_size.get(content.devices, 0) + 1
        if of_size[content.devices] <= WIDTH:
            ways += [(content, after) for after in _with(content, Member(model, parts, 1), candidates)]
    return sorted(ways, key=lambda way: _load(way[1], worth))


def _load(content: Content, worth: Worth) -> float:
    """Computation demand a device."""
    return sum(worth.load(member) * member.tp for member in content.members) / content.devices


def _replaced(state: State, before: Content, after: Content) -> State:
    """With one unit of that content changed."""
    place = state.index(before)
    return (*state[:place], after, *state[place + 1 :])
