"""State of a search: the units of a cluster. Equal ones are counted together, since few units of a large cluster differ."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, KeysView, Mapping

from muxjax.placement.cluster import Mesh
from muxjax.placement.objective import Objective, UnitContents


class State:
    """Units, empty ones included, and what has changed of them since the state was settled; never modified."""

    __slots__ = ("_changes", "_counts", "_holding")

    def __init__(self, counts: Mapping[UnitContents, int], changes: Mapping[UnitContents, int] | None = None):
        self._counts, self._changes = counts, changes or {}
        self._holding: dict[str, list[UnitContents]] | None = None

    @classmethod
    def of(cls, units: Iterable[UnitContents]) -> "State":
        """A settled one."""
        return cls(Counter(units))

    def __iter__(self) -> Iterator[UnitContents]:
        for contents, count in self.key:
            yield from itertools.repeat(contents, count)

    def __len__(self) -> int:
        return sum(self._counts.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self._counts == other._counts

    def __hash__(self) -> int:
        return hash(frozenset(self._counts.items()))

    @property
    def key(self) -> tuple[tuple[UnitContents, int], ...]:
        """The units that differ, ascending, and how often each is there."""
        return tuple(sorted(self._counts.items()))

    @property
    def different(self) -> KeysView[UnitContents]:
        """Units, equal ones once."""
        return self._counts.keys()

    @property
    def meshes(self) -> Counter[Mesh]:
        """How many meshes there are of each kind."""
        meshes: Counter[Mesh] = Counter()
        for contents, count in self._counts.items():
            meshes[contents.mesh] += count
        return meshes

    def count(self, contents: UnitContents) -> int:
        return self._counts.get(contents, 0)

    def holding(self, model: str) -> list[UnitContents]:
        """Units with that LLM, ascending, equal ones once."""
        if self._holding is None:
            self._holding = {}
            for contents in sorted(self._counts):
                for member in contents.members:
                    self._holding.setdefault(member.model, []).append(contents)
        return self._holding.get(model, [])

    def parts(self, model: str) -> int:
        """Replicas of that LLM."""
        return sum(map(self.count, self.holding(model)))

    def replaced(self, before: UnitContents, *after: UnitContents, times: int = 1) -> "State":
        """With so many units of those contents changed, or each cut into several, or taken away."""
        counts, changes = dict(self._counts), dict(self._changes)
        for contents, more in ((before, -times), *((one, times) for one in after)):
            counts[contents] = counts.get(contents, 0) + more
            changes[contents] = changes.get(contents, 0) + more
            assert counts[contents] >= 0, contents
            if not counts[contents]:
                del counts[contents]
        return State(counts, changes)

    def without(self, model: str) -> "State":
        """With that LLM taken out of every unit."""
        state = self
        for contents in [contents for contents in self._counts if contents.holds(model)]:
            state = state.replaced(contents, contents.without(model), times=self._counts[contents])
        return state

    def divided(self, model: str, parts: float) -> "State":
        """With that LLM's rate shared by so many replicas, wherever they are."""
        state = self
        for contents in [contents for contents in self._counts if contents.holds(model)]:
            member = contents.member(model)._replace(parts=parts)
            state = state.replaced(contents, contents.without(model).plus(member), times=self._counts[contents])
        return state

    def settled(self) -> "State":
        """The same units, from which changes are counted anew."""
        return State(self._counts)

    def gain(self, objective: Objective) -> float:
        """Worth more than when it was settled."""
        return math.fsum(more * objective.of(contents) for contents, more in self._changes.items() if more)

    def total(self, objective: Objective) -> float:
        """Worth."""
        return math.fsum(count * objective.of(contents) for contents, count in self._counts.items())
