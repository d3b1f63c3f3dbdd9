"""Keywords that grammars read otherwise than JSON Schema: what asks for nothing goes, as unknown formats, others are rewritten."""

import functools
import json
import re
from typing import Any

from muxjax.server.json_schema.bounds import held_bounds
from muxjax.server.json_schema.fault import schema_fault
from muxjax.server.json_schema.notices import tell_once
from muxjax.server.json_schema.walk import Path, mapped

_LONGEST_NAME = 64
_DECIMAL = r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"
"""Pattern that pydantic writes for Decimal: the same is said without looking ahead."""
_SAME_PATTERN = {_DECIMAL: r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)$"}
_BEFORE_2020 = re.compile(r"draft-0[0-9]|2019-09")


def without_annotations(schema: Any) -> Any:
    """The schema for grammars: a format that is not known is an annotation (JSON Schema 2020-12, 7.2.1), and is told once in the log.

    So is a dialect (`$schema`) that is not known; one is known under http and https alike.
    """
    dialect = schema.get("$schema") if isinstance(schema, dict) else None
    return mapped(schema, _simplified_before_2020 if isinstance(dialect, str) and _BEFORE_2020.search(dialect) else _simplified)


def _simplified_before_2020(path: Path, schema: Any) -> Any:
    if isinstance(schema, dict):
        schema.pop("prefixItems", None)
    return _simplified(path, schema)


def _simplified(path: Path, schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    if not isinstance(schema.get("items"), list):
        schema.pop("additionalItems", None)
    dialect = schema.pop("$schema", None)
    if isinstance(dialect, str) and (known := _known_dialect(dialect)):
        schema["$schema"] = known
    name = schema.get("format")
    if isinstance(name, str) and not _is_known(name):
        tell_once(name, "the format %r of JSON schemas is not known: answers are any string there")
        del schema["format"]
    if isinstance(schema.get("pattern"), str):
        schema["pattern"] = _SAME_PATTERN.get(schema["pattern"], schema["pattern"])
    schema.update(held_bounds(schema))
    return schema


def _known_dialect(name: str) -> str:
    """The dialect as grammars know it; empty for another."""
    bare = name.split("://", 1)[-1]
    names = (name, f"https://{bare}", f"http://{bare}") if len(name) <= _LONGEST_NAME else ()
    return next((each for each in names if _has_grammar(("$schema", each))), "")


def _is_known(name: str) -> bool:
    return len(name) <= _LONGEST_NAME and _has_grammar(("format", name))


@functools.lru_cache(maxsize=1024)
def _has_grammar(entry: tuple[str, str]) -> bool:
    """Whether strings with this keyword and value have one."""
    try:
        return not schema_fault(json.dumps({"type": "string", **dict([entry])}))
    except ValueError:  # half a surrogate pair
        return False
