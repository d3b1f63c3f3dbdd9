"""Keywords that grammars cannot say: said in other words where there are some, otherwise left out and named."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from muxjax.server.json_schema.look_around import without_looking
from muxjax.server.json_schema.walk import Path, References, at, mapped, mapping, texts

_TYPES = ("null", "boolean", "number", "string", "object", "array")
"""All of them; an integer is a number."""
_UNSAYABLE = (
    *("not", "uniqueItems", "contains", "propertyNames", "unevaluatedItems", "unevaluatedProperties"),
    *("if", "dependentRequired", "dependentSchemas", "dependencies"),
)
_OF_OTHERS = ("then", "else", "minContains", "maxContains")
"""Keywords that ask for nothing without one of those."""

_COUNTS = ("minProperties", "maxProperties")
_TOLD = ("title", "description", "default", "examples", "$comment")

Json = dict[str, Any]


class Relaxed(NamedTuple):
    """A schema that grammars can say, and the keywords that it does not hold any more."""

    schema: Any
    unheld: frozenset[str]


def relaxed(root: Any) -> Relaxed:
    """The schema without keywords that grammars cannot say. Whatever follows the old schema follows the new one.

    Raises:
      RecursionError: it is nested too deeply.
    """
    references, unheld = References(root), set[str]()

    def change(path: Path, schema: Any) -> Any:
        if not isinstance(schema, dict):
            return schema
        names = _resolved(root, references, (*path, "propertyNames"))
        said = _without_not(_without_names(_without_idle(schema), names), at(root, (*path, "not")))
        if said is False:
            return False
        said = _without_looking(said, unheld)
        unheld.update(key for key in _UNSAYABLE if key in said)
        return {key: value for key, value in said.items() if key not in _UNSAYABLE and key not in _OF_OTHERS}

    return Relaxed(mapped(root, change), frozenset(unheld))


def uncounted(root: Any) -> Relaxed:
    """The schema without numbers of members, which grammars count only where all that have a name are required.

    Raises:
      RecursionError: it is nested too deeply.
    """
    unheld = set[str]()

    def change(_: Path, schema: Any) -> Any:
        counts = {key: schema[key] for key in _COUNTS if key in schema} if isinstance(schema, dict) else {}
        names, required = (set(mapping(schema, "properties")), texts(schema.get("required"))) if counts else (set(), ())
        if names <= set(required):
            return schema
        is_closed = schema.get("additionalProperties") is False and "patternProperties" not in schema
        idle = {"minProperties": range(len(required) + 1), "maxProperties": range(len(names), 2**31) if is_closed else ()}
        unheld.update(key for key, value in counts.items() if value not in idle[key])
        return {key: value for key, value in schema.items() if key not in counts}

    return Relaxed(mapped(root, change), frozenset(unheld))


def _resolved(root: Any, references: References, path: Path) -> Any:
    """The subschema at `path`, or what it is only a `$ref` to."""
    schema = at(root, path)
    target = references.target(path, schema["$ref"]) if isinstance(schema, dict) and set(schema) == {"$ref"} else None
    return schema if target is None else at(root, target)


def _without_idle(schema: Json) -> Json:
    """Without what holds of everything."""
    idle: Mapping[str, Callable[[Any], bool]] = {
        "uniqueItems": lambda value: value is False,
        "propertyNames": _is_anything,
        "unevaluatedItems": _is_anything,
        "unevaluatedProperties": _is_anything,
        "not": lambda value: value is False,
        "if": lambda _: "then" not in schema and "else" not in schema,
        "contains": lambda _: schema.get("minContains") == 0 and "maxContains" not in schema,
        "dependentRequired": lambda value: value == {},
        "dependentSchemas": lambda value: value == {},
        "dependencies": lambda value: value == {},
    }
    return {key: value for key, value in schema.items() if key not in idle or not idle[key](value)}


def _is_anything(schema: Any) -> bool:
    return schema is True or schema == {}


def _without_names(schema: Json, names: Any) -> Json:
    """`propertyNames` of a pattern or of some names as `patternProperties`; only where nothing else is said of other names."""
    if (
        "propertyNames" not in schema
        or "patternProperties" in schema
        or not isinstance(names, dict)
        or names.get("type", "string") != "string"
    ):
        return schema
    own, asks = mapping(schema, "properties"), _asks(names, "type")
    if set(asks) == {"pattern"} and isinstance(asks["pattern"], str) and not own:
        pattern = asks["pattern"]
    elif (allowed := _values(asks)) is not None:
        own = {name: value for name, value in own.items() if name in allowed}
        pattern = f"^({'|'.join(re.escape(name) for name in texts(allowed) if name not in own)})$"
    else:
        return schema
    said = {key: value for key, value in schema.items() if key != "propertyNames"}
    members = {"patternProperties": {pattern: schema.get("additionalProperties", True)}, "additionalProperties": False}
    return {**said, **({"properties": own} if "properties" in schema else {}), **members}


def _without_not(schema: Json, denied: Any) -> Json | Literal[False]:
    """`not` of types by the others, of values by what an `enum` has left; False where that is nothing."""
    if "not" not in schema:
        return schema
    if _is_anything(denied):
        return False
    asks, rest = _asks(denied), {key: value for key, value in schema.items() if key != "not"}
    values = _values(asks)
    if set(asks) == {"type"} or values == [None]:
        types = _other_types(rest.get("type"), asks.get("type", "null"))
        return schema if types is None else {**rest, "type": types} if types else False
    if values is not None and isinstance(rest.get("enum"), list):
        gone = set(map(_canonical, values))
        left = [value for value in rest["enum"] if _canonical(value) not in gone]
        return {**rest, "enum": left} if left else False
    return schema


def _asks(schema: Any, *others: str) -> Json:
    """What a schema asks, without what it only tells, and without some others."""
    return {key: value for key, value in schema.items() if key not in (*_TOLD, *others)} if isinstance(schema, dict) else {}


def _values(asks: Json) -> list[Any] | None:
    """The values that are allowed, where nothing else is asked."""
    if set(asks) == {"const"}:
        return [asks["const"]]
    return asks["enum"] if set(asks) == {"enum"} and isinstance(asks["enum"], list) else None


def _other_types(own: Any, denied: Any) -> list[str] | None:
    """Types of the own ones, or of all, that are not denied; None where types cannot say it."""
    gone = {denied} if isinstance(denied, str) else set(texts(denied))
    types = [own] if isinstance(own, str) else texts(own) or list(_TYPES)
    if not gone <= {*_TYPES, "integer"} or ("integer" in gone and "number" in types and "number" not in gone):
        return None
    gone |= {"integer"} if "number" in gone else set()
    return [name for name in types if name not in gone]


def _canonical(value: Any) -> str:
    """Text that is the same for equal values: 1 is 1.0, but not true."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def _without_looking(schema: Json, unheld: set[str]) -> Json:
    if not isinstance(schema.get("pattern"), str):
        return schema
    look = without_looking(schema["pattern"])
    if not look.is_same:
        unheld.add("pattern")
    if not look.also:
        return {**schema, "pattern": look.pattern}
    others = schema.get("allOf")
    also = [{"pattern": pattern} for pattern in look.also]
    return {**schema, "pattern": look.pattern, "allOf": [*(others if isinstance(others, list) else ()), *also]}
