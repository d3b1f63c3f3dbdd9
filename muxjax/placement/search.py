"""Steps of a search over placements: insert an LLM where it adds most; take one out and insert it again, or swap two, while that helps."""

import itertools
from collections.abc import Iterator
from functools import partial, reduce

from muxjax.placement.candidates import Candidates
from muxjax.placement.worth import NO_UNIT, Content, Member, Worth

State = tuple[Content, ...]
"""The units of a cluster, empty ones included."""
EQUAL = 1e-9
"""Relative difference of throughputs below which they count as equal: sums in another order."""
WIDTH = 6
"""Ways to place an LLM on meshes of one size, the least loaded ones with room for it, that are looked at."""


def insert(state: State, model: str, count: int, worth: Worth, candidates: Candidates, *, of: int = 0) -> State | None:
    """With so many replicas of an LLM, each where it adds most; of equals, where the least load is. None where there is no room.

    Args:
      of: replicas in all, if others are there already.
    Meshes are looked at by load: the first one that serves the whole rate ends the search, since none can add more.
    """
    parts = of or count
    for _ in range(count):
        best, best_gain = None, NO_UNIT
        seen: dict[int, int] = {}
        for before, after in _ways(state, model, parts, worth, candidates):
            if seen.get(after.devices, 0) >= WIDTH or worth.of(after) == NO_UNIT:
                continue
            seen[after.devices] = seen.get(after.devices, 0) + 1
            gain = worth.of(after) - worth.of(before)
            if best is None or gain > best_gain + EQUAL * abs(best_gain):
                best, best_gain = (before, after), gain
            if gain >= worth.demands[model].rate_rps / parts * (1 - EQUAL):
                break
        if best is None:
            return None
        state = _replaced(state, *best)
    return state


def polish(state: State, worth: Worth, candidates: Candidates, *, most_parts: int, looks: int) -> State:
    """A local optimum: no LLM serves more elsewhere or as one replica more or fewer, and no two that change places, or where
    one takes a mesh over.

    Ends early when so many other states have been looked at.
    """
    models = sorted({member.model for content in state for member in content.members})
    moves = [partial(_reinserted, model=model, worth=worth, most_parts=most_parts) for model in models]
    moves += [partial(_swapped, left=left, right=right) for left, right in itertools.combinations(models, 2)]
    moves += [partial(_taken_over, model=model, worth=worth) for model in models]
    least_gain = EQUAL * worth.total(state)
    while True:
        before = state
        for move in moves:
            for other in move(state, candidates):
                looks -= 1
                if _gain(state, other, worth) > least_gain:
                    state = other
                    break
            if looks <= 0:
                return state
        if state is before:
            return state


def _reinserted(state: State, candidates: Candidates, *, model: str, worth: Worth, most_parts: int) -> Iterator[State]:
    """With that LLM taken out and inserted again, as many replicas as it was, one more, or one fewer."""
    parts = sum(content.holds(model) for content in state)
    rest = tuple(content.without(model) for content in state)
    for count in (parts, parts + 1, parts - 1):
        if 1 <= count <= min(most_parts, len(state)):
            other = insert(rest, model, count, worth, candidates)
            if other is not None:
                yield other


def _swapped(state: State, candidates: Candidates, *, left: str, right: str) -> Iterator[State]:
    """With a replica of each of two LLMs in the place of the other."""
    ones = sorted({content for content in state if content.holds(left) and not content.holds(right)})
    others = sorted({content for content in state if content.holds(right) and not content.holds(left)})
    for one, other in itertools.product(ones, others):
        from_one, from_other = one.member(left), other.member(right)
        new_ones = _with(one.without(left), from_other, candidates)
        new_others = _with(other.without(right), from_one, candidates)
        for new_one, new_other in itertools.product(new_ones, new_others):
            yield _replaced(_replaced(state, one, new_one), other, new_other)


def _taken_over(state: State, candidates: Candidates, *, model: str, worth: Worth) -> Iterator[State]:
    """With that LLM alone on a mesh of its choice, and those it drives out inserted again where they add most."""
    parts = sum(content.holds(model) for content in state)
    rest = tuple(content.without(model) for content in state)
    for content in sorted({content for content in rest if content.members}):
        driven_out = {member.model: sum(other.holds(member.model) for other in state) for member in content.members}
        cleared = tuple(reduce(Content.without, driven_out, other) for other in rest)
        for alone in _with(Content(content.devices), Member(model, parts, 1), candidates):
            place = rest.index(content)
            other = (*cleared[:place], alone, *cleared[place + 1 :])
            for again, count in ((model, parts - 1), *driven_out.items()):
                other = other and insert(other, again, count, worth, candidates, of=parts if again == model else count)
            if other:
                yield other


def _gain(state: State, other: State, worth: Worth) -> float:
    return sum(worth.of(after) - worth.of(before) for before, after in zip(state, other, strict=True) if before is not after)


def _with(content: Content, member: Member, candidates: Candidates) -> list[Content]:
    """With that replica, of each degree that is worth trying."""
    degrees = candidates.degrees(member.model, content.devices, member.parts)
    return [content.plus(member._replace(tp=tp)) for tp in degrees]


def _ways(state: State, model: str, parts: int, worth: Worth, candidates: Candidates) -> list[tuple[Content, Content]]:
    """Contents before and after one more replica, by load a device; equal contents once."""
    open_to_it = sorted(content for content in {*state} if not content.holds(model))
    ways = [(content, after) for content in open_to_it for after in _with(content, Member(model, parts, 1), candidates)]
    return sorted(ways, key=lambda way: worth.load(way[1]))


def _replaced(state: State, before: Content, after: Content) -> State:
    """With one unit of that content changed."""
    place = state.index(before)
    return (*state[:place], after, *state[place + 1 :])
