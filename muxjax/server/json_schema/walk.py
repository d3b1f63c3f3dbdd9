"""Subschemas of a JSON schema and where they are: what is a schema in it, and what is only data that looks like one."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

Path = tuple[str | int, ...]
"""Keys and places from the root."""

_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_SCHEMAS = (
    *("items", "additionalItems", "additionalProperties", "propertyNames", "contains", "unevaluatedItems", "unevaluatedProperties"),
    *("not", "if", "then", "else"),
)
_PLACE = re.compile(r"[0-9]{1,9}")


def children(schema: Any) -> Iterator[tuple[Path, Any]]:
    """Subschemas right below, with the path to each."""
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key in _MAPS and isinstance(value, dict):
            yield from (((key, name), child) for name, child in value.items())
        elif key in _LISTS and isinstance(value, list):
            yield from (((key, place), child) for place, child in enumerate(value))
        elif key in _SCHEMAS:
            yield (key,), value


def descendants(schema: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The schema and all below, those below first."""
    for below, child in children(schema):
        yield from descendants(child, path + below)
    yield path, schema


def mapped(schema: Any, change: Callable[[Path, Any], Any], path: Path = ()) -> Any:
    """A copy with every subschema changed: those below first, the schema itself last."""
    if not isinstance(schema, dict):
        return change(path, schema)
    copy = {key: dict(value) if key in _MAPS and isinstance(value, dict) else _listed(value) for key, value in schema.items()}
    for below, child in children(schema):
        holder: Any = copy
        for key in below[:-1]:
            holder = holder[key]
        holder[below[-1]] = mapped(child, change, path + below)
    return change(path, copy)


def pointer(path: Path) -> str:
    """JSON pointer of a path, as `$ref` has it: "#" is the root."""
    return "#" + "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in path)


class References:
    """Where each `$ref` within a schema leads.

    Raises:
      RecursionError: the schema is nested too deeply.
    """

    def __init__(self, root: Any):
        self._root = root
        self._names: dict[str, Path] = {}
        self._bases: set[Path] = {()}
        for path, schema in descendants(root):
            if isinstance(schema, dict):
                self._add(path, schema.get("$anchor"), schema.get("$id"))

    def target(self, path: Path, ref: Any) -> Path | None:
        """Path of what a `$ref` of the subschema at `path` leads to; None where that is nothing, or not in the schema."""
        if not isinstance(ref, str):
            return None
        if ref in self._names:
            return self._names[ref]
        if ref not in ("", "#") and not ref.startswith("#/"):
            return None
        found = next(path[:end] for end in range(len(path), -1, -1) if path[:end] in self._bases)
        for word in ref.split("/")[1:]:
            key = unquote(word).replace("~1", "/").replace("~0", "~")
            found = (*found, int(key) if isinstance(at(self._root, found), list) and _PLACE.fullmatch(key) else key)
        return found if at(self._root, found) is not None else None

    def _add(self, path: Path, anchor: Any, name: Any) -> None:
        if isinstance(anchor, str):
            self._names[f"#{anchor}"] = path
        if isinstance(name, str) and name:
            self._names |= {name: path, name.rsplit("/", 1)[-1]: path}
            if not name.startswith("#"):
                self._bases.add(path)


def at(root: Any, path: Path) -> Any:
    """What is there; None for nothing."""
    value = root
    for key in path:
        if isinstance(value, list):
            value = value[key] if isinstance(key, int) and key < len(value) else None
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def mapping(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What the keyword maps; nothing where it is no object."""
    value = schema.get(key)
    return value if isinstance(value, dict) else {}


def texts(value: Any) -> list[str]:
    """The texts in a list; none where it is no list."""
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value
