"""Objects without members that nobody named: where a schema leaves them open, small models write one after the other to the end."""

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from muxjax.server.json_schema.walk import Path, References, at, descendants, mapped, mapping, texts

MOST_STEPS = 100_000
"""Schemas and names that are looked at together, after which objects stay as open as they are."""
_ALTERNATIVES = ("allOf", "anyOf", "oneOf")
_CONDITIONS = ("if", "then", "else")
_MEMBER_KEYS = frozenset(
    ("properties", "patternProperties", "additionalProperties", "unevaluatedProperties", "required", "minProperties", "maxProperties")
)


def closed(root: Any) -> Any:
    """The schema with `additionalProperties: false` wherever it names `properties` or patterns of them and says nothing of others.

    Where several subschemas speak of one object (beside `allOf`, `anyOf`, `$ref` and the like), it has the members that any of them names,
    and none of them is closed by itself, which the others' members could not pass. So `unevaluatedProperties` is held too. What has to
    have members without a name (`minProperties`, `const`, `enum`) stays open. Whatever follows the new schema follows the old one.

    Raises:
      RecursionError: it is nested too deeply.
    """
    return mapped(root, _Closing(root).change)


class _Closing:
    def __init__(self, root: Any):
        self._root, self._references = root, References(root)
        self._left = MOST_STEPS
        self._merged = self._reached(path for path, _ in descendants(root) if self._is_combination(path))

    def change(self, path: Path, schema: Any) -> Any:
        """The subschema at `path`, those below it changed already."""
        if not isinstance(schema, dict) or path in self._merged or not (_speaks(schema) or self._is_combination(path)):
            return schema
        parts = [part for one in self._together(path) if isinstance(part := at(self._root, one), dict)]
        if self._left < 0 or not _may_close(*parts):
            return schema
        others = schema.get("unevaluatedProperties", False)
        names = dict.fromkeys(chain.from_iterable((*mapping(part, "properties"), *texts(part.get("required"))) for part in parts), True)
        patterns = dict.fromkeys(chain.from_iterable(mapping(part, "patternProperties") for part in parts), True)
        self._left -= len(names) + len(patterns)
        own = mapping(schema, "properties")
        members = {
            **({"properties": {**own, **{name: True for name in names if name not in own}}} if names else {}),
            **({"patternProperties": {**patterns, **mapping(schema, "patternProperties")}} if patterns else {}),
            "additionalProperties": others,
        }
        rest = {key: value for key, value in schema.items() if key not in members and key != "unevaluatedProperties"}
        return {**members, **rest}  # llguidance forgets patterns of `allOf` where it comes first

    def _is_combination(self, path: Path) -> bool:
        """Several subschemas speak of one value here."""
        schema = at(self._root, path)
        return isinstance(schema, dict) and len(self._groups(path)) + _speaks(schema) > 1

    def _groups(self, path: Path) -> list[list[Path]]:
        """Others that speak of the same value: of each list all, or one."""
        schema = at(self._root, path)
        if not isinstance(schema, dict):
            return []
        target = self._references.target(path, schema.get("$ref"))
        groups = [] if target is None else [[target]]
        for key in _ALTERNATIVES:
            if isinstance(branches := schema.get(key), list):
                paths: list[Path] = [(*path, key, place) for place in range(len(branches))]
                groups += [[one] for one in paths] if key == "allOf" else [paths]
        groups += [[(*path, key)] for key in _CONDITIONS if key in schema]
        return groups + [[(*path, "dependentSchemas", name)] for name in mapping(schema, "dependentSchemas")]

    def _reached(self, combinations: Iterable[Path]) -> set[Path]:
        """Subschemas that speak of a value together with others."""
        queue = [other for path in combinations for other in chain.from_iterable(self._groups(path))]
        found = set(queue)
        while queue:
            new = set(chain.from_iterable(self._groups(queue.pop()))) - found
            found |= new
            queue += new
        return found

    def _together(self, path: Path) -> list[Path]:
        """The subschema, and all that speak of its value, in their order, as far as there are steps left."""
        found: dict[Path, None] = {}
        stack = [path]
        while stack and self._left >= 0:
            one = stack.pop()
            if one not in found:
                self._left -= 1
                found[one] = None
                stack += reversed(list(chain.from_iterable(self._groups(one))))
        return list(found)


def _may_close(one: Mapping[str, Any], *others: Mapping[str, Any]) -> bool:
    """Whether one that speaks with others of an object leaves open what else is in it, or says that of all of them together."""
    asked, parts = "unevaluatedProperties" in one, (one, *others)
    if any("additionalProperties" in part for part in parts) or any("unevaluatedProperties" in part for part in others):
        return False
    named = {name for part in parts for name in (*mapping(part, "properties"), *texts(part.get("required")))}
    least = max((value for part in parts if type(value := part.get("minProperties")) is int), default=0)
    lists_values = any("const" in part or "enum" in part for part in parts)
    return asked or (
        any("properties" in part or "patternProperties" in part for part in parts) and least <= len(named) and not lists_values
    )


def _speaks(schema: Mapping[str, Any]) -> bool:
    return not _MEMBER_KEYS.isdisjoint(schema)
