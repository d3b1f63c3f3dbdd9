"""Calls as Python writes them, `[f(a=1), g(b="x")]`: all of an answer, or behind Llama 4's `<|python_start|>`."""

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from muxjax.server.answers.formats.shape import Shape
from muxjax.server.answers.pattern import Mark, Slot
from muxjax.server.answers.tools import Tool

_MOST_CHARACTERS = 2**16
"""Of a call's arguments, which are looked through again whenever more of them comes."""
_SIGN = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|["'()\[\]{},]""", re.DOTALL)
_JSON_NAMES: Mapping[str, Any] = {"true": True, "false": False, "null": None}
_READ_ERRORS = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_NAMED = re.compile(r"""\s*([^\s"'()\[\]{},=][^"'()\[\]{},=]*?)\s*=""")
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class PythonArguments:
    """Arguments by name, up to the bracket that ends the call; they are told when they are complete."""

    def read(self, text: str) -> str | None:
        end = _end(text)
        if end is None:
            return None if len(text) < _MOST_CHARACTERS else ""
        try:
            return _as_json(text[:end]) + text[end:]
        except _READ_ERRORS:
            return ""

    def rules(self, tool: Tool, rule: str) -> list[str]:
        """Those that `properties` names, in its order, each as its schema has it and written as JSON, which the reader takes as well.

        A model that writes True is led to true. Where there are no properties, any names go.
        """
        schema = json.loads(tool.schema)
        shared = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
        layout = {"x-guidance": {**_LAYOUT, **schema.get("x-guidance", {})}}
        properties, required = schema.get("properties") or {}, schema.get("required") or ()
        if not properties and schema.get("additionalProperties") is not False:
            any_one = f'/[a-zA-Z_][a-zA-Z0-9_]*/ "=" %json {json.dumps(layout)}'
            return [f'{rule}: ({rule}_any (", " {rule}_any)*)?', f"{rule}_any: {any_one}"]
        named = []
        for place, (name, value) in enumerate(properties.items()):
            of_value = json.dumps({**shared, **(value if isinstance(value, dict) else {}), **layout})
            named += [f"{rule}_{place}: {json.dumps(name + '=')} %json {of_value}"]
        return [f"{rule}: {_first(rule, 0, len(named))}", *_lists(rule, [name in required for name in properties]), *named]


def _first(rule: str, place: int, count: int) -> str:
    return f"{rule}_from_{place}" if place < count else '""'


def _lists(rule: str, required: list[bool]) -> list[str]:
    """Rules of lists that begin with some argument, and of what follows upon one."""
    count, lists = len(required), []
    for place, must in enumerate(required):
        behind = f"{rule}_behind_{place + 1}" if place + 1 < count else ""
        lists.append(f"{rule}_from_{place}: {rule}_{place} {behind}" + ("" if must else f" | {_first(rule, place + 1, count)}"))
        lists.append(f'{rule}_behind_{place}: (", " {rule}_{place}){"" if must else "?"} {behind}')
    return lists


def _end(text: str) -> int | None:
    """Place of the bracket that ends a call; None where it has not come."""
    depth = 1
    for found in _SIGN.finditer(text):
        if found[0] in "\"'":  # of a string that is not complete
            return None
        depth += 1 if found[0] in "([{" else -1 if found[0] in ")]}" else 0
        if depth == 0:
            return found.start()
    return None


def _as_json(arguments: str) -> str:
    """Raises any of _READ_ERRORS: they are not literals by name."""
    told = json.dumps(dict(map(_named, _split(arguments))), ensure_ascii=False, allow_nan=False)
    return told.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # JSON may write one character as a pair of surrogates


def _split(arguments: str) -> list[str]:
    """The arguments, each with its name; Python's own parser takes no `from=` or `start-date=`, which schemas have."""
    depth, start, split = 0, 0, list[str]()
    for found in _SIGN.finditer(arguments + ","):
        depth += 1 if found[0] in "([{" else -1 if found[0] in ")]}" else 0
        if found[0] == "," and depth == 0:
            split.append(arguments[start : found.start()])
            start = found.end()
    return split if split[-1].strip() else split[:-1]


def _named(argument: str) -> tuple[str, Any]:
    """Raises any of _READ_ERRORS."""
    name = _NAMED.match(argument)
    if name is None:
        raise ValueError("not by name")
    python = _ESCAPE.sub(lambda escape: "/" if escape[1] == "/" else escape[0], argument[name.end() :])  # which has no \/
    return name[1], _value(ast.parse(python.strip(), mode="eval").body)


def _value(node: ast.expr) -> Any:
    """A literal, of Python or of JSON."""
    if isinstance(node, ast.Name) and node.id in _JSON_NAMES:
        return _JSON_NAMES[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(key) if key else "": _value(value) for key, value in zip(node.keys, node.values, strict=True)}
    return ast.literal_eval(node)


PYTHONIC = Shape(
    trigger=Mark("<|python_start|>"),
    is_bare=True,
    before=("[",),
    call=(Slot.NAME, "("),
    arguments=PythonArguments(),
    end=(")",),
    between=(", ",),
    after=("]",),
)
