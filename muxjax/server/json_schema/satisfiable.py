"""Whether any answer can follow a JSON schema: what can be written to its end, as the least fixed point over its references.

A schema that needs itself within itself, without a way out, would have an answer write for ever: it is as good as `false`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from muxjax.server.json_schema.walk import Path, anchors, at, children, mapped, target

_DEFINITIONS = ("$defs", "definitions")


class Contradiction(NamedTuple):
    """Why no answer can follow a schema.

    Args:
      path: to the subschema whose fault it is.
    """

    path: Path
    reason: str


class Satisfiable:
    """Subschemas that some finite answer follows, as far as references, `false` and empty lists decide it.

    Raises:
      RecursionError: the schema is nested too deeply.
    """

    def __init__(self, root: Any):
        self._root, self._anchors = root, anchors(root)
        self._paths = self._reachable()
        self._finite: set[Path] = set()
        self._settle()

    def pruned(self) -> Any:
        """The schema with `false` for all that no answer can follow, but for definitions: nothing leads to those any more."""
        return mapped(self._root, lambda path, schema: schema if self._stays(path) else False)

    def contradiction(self) -> Contradiction | None:
        """Why nothing can follow the whole schema; None if something can."""
        path, seen = (), set[Path]()
        if path in self._finite:
            return None
        while not (reason := _own_reason(at(self._root, path))):
            seen.add(path)
            path = next(group[0] for group in self._needs(path) if not self._any(group))
            if path in seen:
                return Contradiction(path, _loop(at(self._root, path)))
        return Contradiction(path, reason)

    def _reachable(self) -> list[Path]:
        """Paths of all subschemas, and of what references lead to elsewhere; those above first."""
        paths: dict[Path, None] = {(): None}
        queue: list[Path] = [()]
        for path in queue:
            schema = at(self._root, path)
            below = [path + end for end, _ in children(schema)]
            new = [other for other in (*below, *self._referred(schema)) if other not in paths]
            paths |= dict.fromkeys(new)
            queue += new
        return list(paths)

    def _settle(self) -> None:
        """Finds the least fixed point: each that is finite has those looked at again that need it."""
        needs = {path: list(self._needs(path)) for path in self._paths}
        needed_by: dict[Path, list[Path]] = {}
        for path, groups in needs.items():
            for other in (other for group in groups for other in group):
                needed_by.setdefault(other, []).append(path)
        queue = list(self._paths)
        while queue:
            path = queue.pop()
            if path not in self._finite and not _own_reason(at(self._root, path)) and all(map(self._any, needs[path])):
                self._finite.add(path)
                queue += needed_by.get(path, ())

    def _any(self, paths: list[Path]) -> bool:
        return any(path in self._finite for path in paths)

    def _stays(self, path: Path) -> bool:
        return path in self._finite or not path or (len(path) > 1 and path[-2] in _DEFINITIONS)

    def _referred(self, schema: Any) -> list[Path]:
        ref = schema.get("$ref") if isinstance(schema, dict) else None
        path = target(self._root, ref, self._anchors)
        return [] if path is None else [path]

    def _needs(self, path: Path) -> Iterator[list[Path]]:
        """Subschemas of which an answer follows one at least, again and again."""
        schema = at(self._root, path)
        if not isinstance(schema, dict):
            return
        below = [end for end, _ in children(schema)]
        if referred := self._referred(schema):
            yield referred
        for key in ("anyOf", "oneOf"):
            if branches := [path + end for end in below if end[0] == key]:
                yield branches
        yield from ([path + end] for end in below if end[0] == "allOf" or end in _parts(schema))


def _parts(schema: dict[str, Any]) -> set[Path]:
    """Paths of what every answer has in it: members that are required, items that must be there."""
    kind = schema.get("type")
    if kind in ("object", ["object"]):
        names, properties = schema.get("required"), schema.get("properties")
        if isinstance(names, list) and isinstance(properties, dict):
            return {("properties", name) for name in names if isinstance(name, str) and name in properties}
    least = schema.get("minItems")
    if kind in ("array", ["array"]) and isinstance(least, int) and least > 0:
        key = "prefixItems" if isinstance(schema.get("prefixItems"), list) else "items"
        first = schema.get(key)
        places: set[Path] = {(key, place) for place in range(min(least, len(first)))} if isinstance(first, list) else set()
        rest = "additionalItems" if isinstance(schema.get("items"), list) else "items"
        return places | ({(rest,)} if least > len(places) and rest in schema else set())
    return set()


def _own_reason(schema: Any) -> str:
    """Why nothing follows it, whatever the others do; empty if something may."""
    if schema is False:
        return "false allows no answer"
    if isinstance(schema, dict):
        for key in ("enum", "anyOf", "oneOf", "type"):
            if schema.get(key) == []:
                return f"{key} is empty, which allows no answer"
    return ""


def _loop(schema: Any) -> str:
    if isinstance(schema, dict) and "$ref" in schema:
        return f"$ref {str(schema['$ref'])[:80]!r} leads only to itself, again and again"
    return "it is required within itself, without an end"
