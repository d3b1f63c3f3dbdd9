"""Patterns as grammars match them: a client's pattern is never tried in Python, where it may take for ever."""

import functools
import json
import re

from muxjax.server.json_schema.fault import schema_fault

_KEPT = 4096
_OTHER_ANCHORS = re.compile(r"\\[bBAzZ]")


@functools.lru_cache(maxsize=_KEPT)
def is_in(pattern: str, name: str) -> bool | None:
    """Whether the pattern is found in the name; None if it cannot be told."""
    schema = {"type": "string", "pattern": pattern}
    try:
        return None if _fault(schema) else not _fault({**schema, "const": name})
    except ValueError:  # half a surrogate pair
        return None


def is_in_all(pattern: str) -> bool:
    """Whether it is clear that every name has the pattern in it: it may be empty, where a name begins or where it ends."""
    return not ("^" in pattern and "$" in pattern) and not _OTHER_ANCHORS.search(pattern) and is_in(pattern, "") is True


def ends_in_escape(pattern: str) -> bool:
    """The last character is a backslash that escapes nothing, which grammars would not mind."""
    return (len(pattern) - len(pattern.rstrip("\\"))) % 2 == 1


def _fault(schema: dict[str, str]) -> str:
    return schema_fault(json.dumps(schema, ensure_ascii=False))
