"""What subschemas say of the same value: `$ref`, `allOf`, and the branches of `anyOf` and `oneOf` of which it follows one."""

from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Any

from muxjax.server.json_schema.demands import asks
from muxjax.server.json_schema.fixed_point import holding
from muxjax.server.json_schema.walk import Path, References, at


class Branches:
    """Which subschemas a value must follow for what it follows already.

    Raises:
      RecursionError: the schema is nested too deeply.
    """

    def __init__(self, root: Any):
        self._root, self._references = root, References(root)
        self._groups: dict[Path, list[list[Path]]] = {}

    def closed(self, paths: Iterable[Path]) -> frozenset[Path]:
        """These, and whatever they lead to without a choice; one alone that others stand for is left as it is."""
        found = dict.fromkeys(paths)
        queue = list(found)
        if self.instead(found) is not None:
            return frozenset(found)
        for path in queue:
            new = [group[0] for group in self._of(path) if len(group) == 1 and group[0] not in found]
            found |= dict.fromkeys(new)
            queue += new
        return frozenset(found)

    def instead(self, paths: Collection[Path]) -> list[Path] | None:
        """Others of which the value may as well follow one alone, as of a mere `$ref` or `anyOf`; None where there are none."""
        if len(paths) != 1:
            return None
        (path,) = paths
        schema, groups = at(self._root, path), self._of(path)
        return groups[0] if len(groups) == 1 and not (own_fault(schema) or asks(schema)) else None

    def undecided(self, paths: frozenset[Path]) -> list[Path] | None:
        """Branches of which a value must follow one more, none where it cannot; None where all is decided.

        It follows a schema because it follows others: one that leads only to itself leads nowhere.
        """
        groups = {path: self._of(path) for path in paths}
        held = holding(groups)
        if len(held) == len(paths):
            return None
        unmet = [group for path in in_order(paths) for group in groups[path] if held.isdisjoint(group)]
        without_any = [group for group in unmet if paths.isdisjoint(group)]
        tried = [min(without_any, key=len)] if without_any else unmet
        return [path for path in chain.from_iterable(tried) if path not in paths]

    def _of(self, path: Path) -> list[list[Path]]:
        """Others that the value follows, one at least of each list."""
        if path not in self._groups:
            self._groups[path] = list(self._found(path))
        return self._groups[path]

    def _found(self, path: Path) -> Iterator[list[Path]]:
        schema = at(self._root, path)
        if own_fault(schema):
            yield []
        elif isinstance(schema, dict):
            referred = self._references.target(path, schema.get("$ref"))
            yield from () if referred is None else ([referred],)
            for key in ("allOf", "anyOf", "oneOf"):
                if isinstance(branches := schema.get(key), list):
                    paths = [(*path, key, place) for place in range(len(branches))]
                    yield from ([one] for one in paths) if key == "allOf" else (paths,)


def own_fault(schema: Any) -> str:
    """Why nothing follows it, whatever the others do; empty if something may."""
    if schema is False:
        return "false allows no answer"
    if isinstance(schema, dict):
        for key in ("enum", "anyOf", "oneOf", "type"):
            if schema.get(key) == []:
                return f"{key} is empty, which allows no answer"
    return ""


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Those above first."""
    return sorted(paths, key=lambda path: (len(path), str(path)))
