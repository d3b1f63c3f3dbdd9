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


def target(root: Any, ref: Any, anchors: Mapping[str, Path]) -> Path | None:
    """Path of what a `$ref` within the schema leads to; None where that is nothing, or not in the schema.

    Args:
      anchors: as of `anchors`.
    """
    if not isinstance(ref, str):
        return None
    if ref in anchors:
        return anchors[ref]
    if ref != "#" and not ref.startswith("#/"):
        return None
    path: Path = ()
    for word in ref.split("/")[1:]:
        key = unquote(word).replace("~1", "/").replace("~0", "~")
        path = (*path, int(key) if isinstance(at(root, path), list) and _PLACE.fullmatch(key) else key)
    return path if at(root, path) is not None else None


def anchors(root: Any) -> dict[str, Path]:
    """Paths by the names that `$anchor` and `$id` give them, as a `$ref` says them."""
    paths: dict[str, Path] = {}
    for path, schema in descendants(root):
        if isinstance(schema, dict):
            anchor, name = schema.get("$anchor"), schema.get("$id")
            paths |= {f"#{anchor}": path} if isinstance(anchor, str) else {}
            paths |= {name: path, name.rsplit("/", 1)[-1]: path} if isinstance(name, str) and name else {}
    return paths


def at(root: Any, path: Path) -> Any:
    """What is there; None for nothing."""
    value = root
    for key in path:
        if isinstance(value, list):
            value = value[key] if isinstance(key, int) and key < len(value) else None
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value
