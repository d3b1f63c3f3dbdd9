"""Whether any answer can follow a JSON schema: what can be written to its end, as the least fixed point over all that must be in it.

A schema that needs itself within itself, without a way out, would have an answer write for ever: it is as good as `false`.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

from muxjax.server.json_schema.branches import Branches, in_order, own_fault
from muxjax.server.json_schema.demands import Demands, Kind, Schemas, asking, demands, kinds, weight
from muxjax.server.json_schema.fixed_point import holding
from muxjax.server.json_schema.walk import Path, at, mapped

MOST_STEPS = 100_000
"""Steps, of about the same length, after which nothing more is found out about a schema."""


class Contradiction(NamedTuple):
    """Why no answer can follow a schema.

    Args:
      path: to the subschema whose fault it is.
    """

    path: Path
    reason: str


class Value(NamedTuple):
    """A value somewhere in an answer.

    Args:
      paths: subschemas that it follows, all of them: what makes it endless may stand in one, and its way out be shut by another.
      kind: None before it is chosen.
    """

    paths: frozenset[Path]
    kind: Kind | None = None


class _TooMany(Exception):
    """Of steps."""


class Satisfiable:
    """Values that can be written to their end.

    Never wrong about a schema that some answer follows. Where it is too large to find out, or another keyword has to be understood
    (numbers, texts, `oneOf` as exactly one), values count as finite.

    Raises:
      RecursionError: the schema is nested too deeply.
    """

    def __init__(self, root: Any):
        self._root, self._branches = root, Branches(root)
        self._left = MOST_STEPS
        self._start = self._value([()])
        self._needs: dict[Value, list[list[Value]]] = {self._start: []}
        self._more: dict[Value, list[Value]] = {}
        self._is_explored = self._explore()
        self._finite = holding(self._needs)

    def contradiction(self) -> Contradiction | None:
        """Why nothing can follow the whole schema; None if something can."""
        value, what, seen = self._start, "", set[Value]()
        if value in self._finite:
            return None
        while not (found := self._own_contradiction(value, what)):
            if value in seen:
                return self._loop(value)
            seen.add(value)
            place = next(place for place, group in enumerate(self._needs[value]) if self._finite.isdisjoint(group))
            if value.kind:
                what = f"but there must be {self._demands(value).needs[place].what}"
            value = self._needs[value][place][0]
        return found

    def pruned(self) -> Any:
        """The schema with `false` for what no answer follows wherever it may be asked."""
        if not self._is_explored:
            return self._root
        asked = set(chain.from_iterable(value.paths for value in self._needs))
        dead = asked.difference(*(value.paths for value in self._live()))
        return mapped(self._root, lambda path, schema: False if path in dead else schema)

    def _explore(self) -> bool:
        """Finds all values that there may be; False if they are too many, and those left over need nothing."""
        queue = [self._start]
        try:
            for value in queue:
                self._needs[value], self._more[value] = self._expanded(value)
                others = dict.fromkeys(chain(*self._needs[value], self._more[value]))
                new = [other for other in others if other not in self._needs]
                self._needs |= {other: [] for other in new}
                queue += new
        except _TooMany:
            return False
        return True

    def _expanded(self, value: Value) -> tuple[list[list[Value]], list[Value]]:
        """What it needs, one of each list, and what else may be in it."""
        self._spend(len(value.paths))
        if value.kind:
            self._spend(weight(self._schemas(value)))
            asked = self._demands(value)
            needs = [list(map(self._value, need.parts)) for need in asked.needs]
            return [[]] if asked.contradiction else needs, list(map(self._value, asked.more))
        if (others := self._branches.instead(value.paths)) is not None:
            return [[self._value([other]) for other in others]], []
        if (others := self._branches.undecided(value.paths)) is not None:
            self._spend(len(value.paths) * len(others))
            return [[self._value([*value.paths, other]) for other in others]], []
        schemas = self._schemas(value)
        return [[Value(asking(kind, schemas), kind) for kind in kinds(schemas)]], []

    def _spend(self, steps: int) -> None:
        """Raises _TooMany: there were as many as there may be."""
        self._left -= steps + 1
        if self._left < 0:
            raise _TooMany

    def _value(self, paths: Iterable[Path]) -> Value:
        return Value(self._branches.closed(paths))

    def _live(self) -> list[Value]:
        """Values that finite answers may have in them."""
        live = {self._start: None}
        queue = [self._start]
        for value in queue:
            others = dict.fromkeys(chain(*self._needs[value], self._more[value]))
            new = [other for other in others if other in self._finite and other not in live]
            live |= dict.fromkeys(new)
            queue += new
        return queue

    def _schemas(self, value: Value) -> Schemas:
        found = {path: at(self._root, path) for path in in_order(value.paths)}
        return {path: schema for path, schema in found.items() if isinstance(schema, dict)}

    def _demands(self, value: Value) -> Demands:
        assert value.kind
        return demands(value.kind, self._schemas(value))

    def _own_contradiction(self, value: Value, what: str) -> Contradiction | None:
        """Why there is no such value, whatever others are."""
        paths = in_order(value.paths)
        for path in paths:
            schema = at(self._root, path)
            if fault := own_fault(schema):
                return Contradiction(path, f"{fault}, {what}" if schema is False and what else fault)
        if value.kind:
            reason = self._demands(value).contradiction
            return Contradiction(paths[0], reason) if reason else None
        if self._needs[value] != [[]]:
            return None
        if self._branches.undecided(value.paths) is None:
            return Contradiction(paths[0], "type, enum and const contradict each other")
        return self._loop(value)

    def _loop(self, value: Value) -> Contradiction:
        path = in_order(value.paths)[0]
        schema = at(self._root, path)
        if isinstance(schema, dict) and "$ref" in schema:
            return Contradiction(path, f"$ref {str(schema['$ref'])[:80]!r} leads only to itself, again and again")
        return Contradiction(path, "it is required within itself, without an end")
