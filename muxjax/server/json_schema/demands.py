"""What several schemas ask together of one value: of which kinds it may be, and what its members and items must follow.

Keywords that grammars cannot say (`not`, `if`, `contains`, `dependentRequired` and others) are not looked at.
"""

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import chain
from typing import Any, NamedTuple

from muxjax.server.json_schema.patterns import is_in, is_in_all
from muxjax.server.json_schema.walk import Path, mapping, texts

Schemas = Mapping[Path, Mapping[str, Any]]
"""Subschemas that one value must follow, all of them."""
Part = frozenset[Path]
"""Subschemas that a member or item must follow, all of them."""

_MATCH_STEPS = 20
_TYPES = frozenset(("null", "boolean", "number", "integer", "string", "object", "array"))
_TYPES_OF: dict[type, tuple[str, ...]] = {
    **{bool: ("boolean",), int: ("number", "integer"), float: ("number", "integer")},
    **{str: ("string",), dict: ("object",), list: ("array",)},
}


class Kind(StrEnum):
    """Kinds of values: those that have parts, and the others."""

    OBJECT = "object"
    ARRAY = "array"
    PLAIN = "plain"


_KIND_KEYS = frozenset(("type", "const", "enum"))
_KEYS = {
    Kind.PLAIN: frozenset[str](),
    Kind.OBJECT: frozenset(("required", "properties", "patternProperties", "additionalProperties", "minProperties", "maxProperties")),
    Kind.ARRAY: frozenset(("items", "prefixItems", "additionalItems", "minItems", "maxItems")),
}


class Need(NamedTuple):
    """What there must be in a value.

    Args:
      what: in words, after "there must be".
      parts: one of them at least.
    """

    what: str
    parts: list[Part]


class Demands(NamedTuple):
    """What is asked of a value of one kind.

    Args:
      more: parts that there may be.
      contradiction: why there is no such value; "" where that is not known.
    """

    needs: list[Need]
    more: list[Part]
    contradiction: str = ""


def kinds(schemas: Schemas) -> list[Kind]:
    """Kinds that `type`, `const` and `enum` leave."""
    types = _TYPES.intersection(*map(_types, schemas.values()))
    parted = [kind for kind in (Kind.OBJECT, Kind.ARRAY) if kind in types]
    return [*([Kind.PLAIN] if len(types) > len(parted) else []), *parted]


def asks(schema: Any) -> bool:
    """Whether the schema asks anything itself, not only by others that it leads to."""
    return isinstance(schema, dict) and not _KIND_KEYS.union(*_KEYS.values()).isdisjoint(schema)


def asking(kind: Kind, schemas: Schemas) -> Part:
    """Those that ask something of values of the kind."""
    return frozenset(path for path, schema in schemas.items() if not _KEYS[kind].isdisjoint(schema))


def demands(kind: Kind, schemas: Schemas) -> Demands:
    """What is asked of a value of this kind."""
    if kind is Kind.PLAIN:
        return Demands([], [])
    return _of_object(schemas) if kind is Kind.OBJECT else _of_array(schemas)


def weight(schemas: Schemas) -> int:
    """Steps that it takes at most to find the demands of them together."""
    keys = ("properties", "required", "patternProperties", "prefixItems", "items")
    parts = sum(len(value) for schema in schemas.values() for key in keys if isinstance(value := schema.get(key), dict | list))
    patterns = sum(len(mapping(schema, "patternProperties")) for schema in schemas.values())
    return parts * (len(schemas) + _MATCH_STEPS * patterns)


def _types(schema: Mapping[str, Any]) -> frozenset[str]:
    """Types of the values that a schema allows; all where it does not say so in words that are known."""
    name = schema.get("type")
    named = set(texts(name)) if isinstance(name, list) else {name} if isinstance(name, str) else set[str]()
    types = named | ({"integer"} if "number" in named else set()) if named and named <= _TYPES else _TYPES
    for values in (
        *([[schema["const"]]] if "const" in schema else ()),
        *([schema["enum"]] if isinstance(schema.get("enum"), list) else ()),
    ):
        types = types & set(chain.from_iterable(_TYPES_OF.get(type(value), ("null",)) for value in values))
    return frozenset(types)


def _of_object(schemas: Schemas) -> Demands:
    required = _unique(texts(schema.get("required")) for schema in schemas.values())
    named = [name for name in _unique(mapping(schema, "properties") for schema in schemas.values()) if name not in required]
    patterns = _unique(mapping(schema, "patternProperties") for schema in schemas.values())
    needs = [Need(f"a member {name[:80]!r}", [_member(schemas, name)]) for name in required]
    more = [*(_member(schemas, name) for name in named), *(_other_member(schemas, pattern) for pattern in patterns)]
    if not any(map(is_in_all, patterns)):
        more.append(_other_member(schemas, None))
    least, most = _least(schemas, "minProperties"), _most(schemas, "maxProperties")
    if least > len(required):
        needs.append(Need("another member (minProperties)", more))
    wanted = max(least, len(required))
    return Demands(needs, more, f"{wanted} members are required, and maxProperties is {most}" if wanted > most else "")


def _member(schemas: Schemas, name: str) -> Part:
    """What the member of that name must follow, without patterns of which it cannot be told."""
    paths: set[Path] = set()
    for path, schema in schemas.items():
        found = {pattern: is_in(pattern, name) for pattern in mapping(schema, "patternProperties")}
        paths |= {(*path, "patternProperties", pattern) for pattern, is_found in found.items() if is_found}
        if name in mapping(schema, "properties"):
            paths.add((*path, "properties", name))
        elif "additionalProperties" in schema and all(is_found is False for is_found in found.values()):
            paths.add((*path, "additionalProperties"))
    return frozenset(paths)


def _other_member(schemas: Schemas, pattern: str | None) -> Part:
    """What a member must follow whose name no schema gives, which has the pattern in it, or with None no pattern of any schema.

    Where it cannot be told whether it has another schema's patterns in it, that one asks nothing.
    """
    paths: set[Path] = set()
    for path, schema in schemas.items():
        patterns = mapping(schema, "patternProperties")
        if pattern is not None and pattern in patterns:
            paths.add((*path, "patternProperties", pattern))
        elif "additionalProperties" in schema and (pattern is None or not patterns):
            paths.add((*path, "additionalProperties"))
    return frozenset(paths)


def _of_array(schemas: Schemas) -> Demands:
    firsts = {path: _first_items(schema) for path, schema in schemas.items()}
    places = max((len(keys) for keys, _ in firsts.values()), default=0)

    def item(place: int) -> Part:
        """What it must follow; from `places` on all are alike."""
        return frozenset(
            (*path, *(first[place] if place < len(first) else rest)) for path, (first, rest) in firsts.items() if place < len(first) or rest
        )

    least, most = _least(schemas, "minItems"), _most(schemas, "maxItems")
    needs = [Need(f"an item {place} (minItems)", [item(place)]) for place in range(min(least, places + 1))]
    more = [item(place) for place in range(places + 1)]
    return Demands(needs, more, f"minItems ({least}) is greater than maxItems ({most})" if least > most else "")


def _first_items(schema: Mapping[str, Any]) -> tuple[list[Path], Path]:
    """Ways from an array's schema to those of its first items, and to that of the others; () where there is none."""
    key = "items" if isinstance(schema.get("items"), list) else "prefixItems"
    rest = "additionalItems" if key == "items" else "items"
    first = schema.get(key)
    return [(key, place) for place in range(len(first))] if isinstance(first, list) else [], (rest,) if rest in schema else ()


def _unique(names: Iterable[Iterable[str]]) -> dict[str, None]:
    return dict.fromkeys(chain.from_iterable(names))


def _least(schemas: Schemas, key: str) -> int:
    return max((value for schema in schemas.values() if type(value := schema.get(key)) is int), default=0)


def _most(schemas: Schemas, key: str) -> float:
    return min((value for schema in schemas.values() if type(value := schema.get(key)) is int), default=math.inf)
