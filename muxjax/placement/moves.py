"""Moves of a search: placements that differ in a few units.

A change can only help if one of the units that it touches is *short*, serves less than its rates, so only those are touched.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial, reduce

from muxjax.placement.candidates import Candidates
from muxjax.placement.cluster import Mesh, packs
from muxjax.placement.objective import Member, Objective, UnitContents
from muxjax.placement.problem import Cluster
from muxjax.placement.search import Move, insert
from muxjax.placement.state import State

RETUNED = 256
"""Most combinations of degrees of a unit's LLMs that are tried at once; where there are more, those of two LLMs are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """Moves between the states of one problem.

    Args:
      most_parts: replicas of an LLM; None for no limit but the meshes.
    """

    cluster: Cluster
    objective: Objective
    candidates: Candidates
    most_parts: int | None

    def quick(self) -> list[Move]:
        """Moves of each LLM, and of each two."""
        models = self.models
        moves = [partial(move, model) for move in (self.retuned, self.reinserted, self.transferred) for model in models]
        return moves + [partial(self.swapped, left, right) for left, right in itertools.combinations(models, 2)]

    def slow(self) -> list[Move]:
        """Those that insert several LLMs again."""
        return [partial(self.taken_over, model) for model in self.models]

    def recutting(self) -> list[Move]:
        """Those that lead to other mesh groups."""
        return [partial(self.recut, model) for model in self.models]

    @property
    def models(self) -> list[str]:
        return sorted(self.objective.demands)

    def reinserted(self, model: str, state: State) -> Iterator[State]:
        """With that LLM taken out and inserted again, as many replicas as it was, one more, or one fewer."""
        if not any(map(self.objective.short, state.holding(model))):
            return
        parts, rest = state.parts(model), state.without(model)
        for count in (parts, parts + 1, parts - 1):
            if 1 <= count <= min(self.most_parts or count, len(state)):
                other = insert(rest, model, count, self.objective, self.candidates)
                if other is not None:
                    yield other

    def transferred(self, model: str, state: State) -> Iterator[State]:
        """With one replica more of that LLM in the place of one of another's, whose rate the rest of them share."""
        parts = state.parts(model) + 1
        if parts > (self.most_parts or parts) or not any(map(self.objective.short, state.holding(model))):
            return
        for contents in sorted(contents for contents in state.different if not contents.holds(model)):
            for giver in (member for member in contents.members if member.parts > 1):
                place = contents.without(giver.model)
                rest = state.replaced(contents, place).divided(giver.model, giver.parts - 1).divided(model, parts)
                yield from (rest.replaced(place, after) for after in self._with(place, Member(model, parts, 1)))

    def retuned(self, model: str, state: State) -> Iterator[State]:
        """With other degrees of several LLMs of a unit at once, that one's among them."""
        for contents in filter(self.objective.short, state.holding(model)):
            ways = [self._every_degree(member, contents.mesh) for member in contents.members]
            at = contents.members.index(contents.member(model))
            if math.prod(map(len, ways)) <= RETUNED:
                chosen = itertools.product(*ways) if at == 0 else ()
            else:
                chosen = _of_two(contents.members, ways, at)
            yield from (state.replaced(contents, UnitContents(contents.mesh, members)) for members in chosen)

    def swapped(self, left: str, right: str, state: State) -> Iterator[State]:
        """With a replica of each of two LLMs in the place of the other."""
        ones = [contents for contents in state.holding(left) if not contents.holds(right)]
        others = [contents for contents in state.holding(right) if not contents.holds(left)]
        for one, other in itertools.product(ones, others):
            if not self.objective.short(one) and not self.objective.short(other):
                continue
            from_one, from_other = one.member(left), other.member(right)
            new_ones = self._with(one.without(left), from_other)
            new_others = self._with(other.without(right), from_one)
            for new_one, new_other in itertools.product(new_ones, new_others):
                yield state.replaced(one, new_one).replaced(other, new_other)

    def recut(self, model: str, state: State) -> Iterator[State]:
        """With a unit of that LLM cut in two, or one of it and another of its size in one; who was there is inserted again."""
        for contents in state.holding(model):
            devices, pool = contents.mesh
            half = Mesh(devices // 2, pool)
            if devices > 1 and self.objective.short(contents):
                yield from self._rebuilt(state, (contents,), (half, half))
            for other in sorted(other for other in state.different if other.mesh == contents.mesh and other != contents):
                if self.objective.short(contents) or self.objective.short(other):
                    yield from self._rebuilt(state, (contents, other), (Mesh(2 * devices, pool),))

    def taken_over(self, model: str, state: State) -> Iterator[State]:
        """With that LLM alone on a mesh of its choice, and those it drives out inserted again where they add most."""
        parts, rest = state.parts(model), state.without(model)
        for contents in sorted(contents for contents in rest.different if contents.members):
            driven_out = {member.model: state.parts(member.model) for member in contents.members}
            cleared = reduce(State.without, driven_out, rest)
            for alone in self._with(UnitContents(contents.mesh), Member(model, parts, 1)):
                other: State | None = cleared.replaced(UnitContents(contents.mesh), alone)
                for again, count in ((model, parts - 1), *driven_out.items()):
                    of = parts if again == model else count
                    other = other and insert(other, again, count, self.objective, self.candidates, of=of)
                if other:
                    yield other

    def _rebuilt(self, state: State, units: tuple[UnitContents, ...], meshes: tuple[Mesh, ...]) -> Iterator[State]:
        """With empty meshes in the place of those units, and their LLMs inserted again, the most demanding first."""
        other: State | None = reduce(State.replaced, units[1:], state.replaced(units[0], *map(UnitContents, meshes)))
        if not packs(other.meshes, self.cluster):
            return
        driven_out = sorted({member for contents in units for member in contents.members}, key=self._by_demand)
        for member in driven_out:
            count = sum(contents.holds(member.model) for contents in units)
            other = other and insert(other, member.model, count, self.objective, self.candidates, of=member.parts)
        if other:
            yield other

    def _by_demand(self, member: Member) -> tuple:
        return -self.objective.demanded(member), member

    def _with(self, contents: UnitContents, member: Member) -> list[UnitContents]:
        """With that replica, of each degree that is worth trying."""
        degrees = self.candidates.degrees(member.model, contents.mesh, member.parts)
        return [contents.plus(member._replace(tp=tp)) for tp in degrees]

    def _every_degree(self, member: Member, mesh: Mesh) -> list[Member]:
        return [member._replace(tp=one.tp) for one in self.candidates.on(member.model, mesh, member.parts)]


def _of_two(members: tuple[Member, ...], ways: list[list[Member]], at: int) -> Iterator[tuple[Member, ...]]:
    """Combinations where the LLM there and one other changes."""
    for other in range(len(members)):
        if other != at:
            for one, two in itertools.product(ways[at], ways[other]):
                changed = {at: one, other: two}
                yield tuple(changed.get(i, member) for i, member in enumerate(members))
