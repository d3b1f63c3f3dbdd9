"""A client's JSON schema to one that grammars can be made of, or an error in words about the schema."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from muxjax.errors import RequestError
from muxjax.server.json_schema.annotations import without_annotations
from muxjax.server.json_schema.closing import closed
from muxjax.server.json_schema.fault import schema_fault, takes_one_of_for_any_of
from muxjax.server.json_schema.notices import tell_once
from muxjax.server.json_schema.patterns import ends_in_escape
from muxjax.server.json_schema.relaxed import relaxed, uncounted
from muxjax.server.json_schema.satisfiable import Satisfiable
from muxjax.server.json_schema.size import is_nested_deeper
from muxjax.server.json_schema.walk import Path, at, descendants, pointer

_OPTIONS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "coerce_one_of": True}
_MOST_PLACES = 200
"""Subschemas that are tried for the place of a fault."""
_LONGEST_SEARCHED = 50_000
"""Characters of a schema, beyond which no place is searched."""
_MOST_NESTED = 128
"""Times that lists and objects may be in each other; grammars take a few less."""
_UNWRITABLE = "it has a number that is not finite, or text that is not Unicode"
_WHERE = re.compile(r"\s+while processing json-schema:.*", re.DOTALL)
_WORDS = (
    (re.compile(r"Unimplemented keys: \[(.*)\]"), r"the keywords \1 are not supported"),
    (re.compile(r"Unsatisfiable schema: Regex is empty.*"), r"no text matches its pattern within minLength and maxLength"),
    (re.compile(r"Unsatisfiable schema: incompatible types"), r"no answer can follow it: type, enum and const contradict each other"),
    (re.compile(r"Unsatisfiable schema: (.*)"), r"no answer can follow it: \1"),
    (re.compile(r"invalid multiple of"), r"multipleOf must be over 0"),
    (re.compile(r"Failed to generate regex for .* range: (.*)"), r"minimum and maximum are beyond what can be counted: \1"),
    (re.compile(r"(lookarounds not supported yet; .*|regex parse error: .*)"), r"its pattern cannot be read: \1"),
    (re.compile(r"recursion limit exceeded.*"), r"it is nested too deeply"),
    (
        re.compile(r"oneOf constraints are not supported.*"),
        r"oneOf is supported only where no answer follows two of its schemas: say anyOf",
    ),
    (re.compile(r"Resource '(.*)' is not present.*"), r"$ref \1 is not in the schema, and nothing is fetched"),
    (re.compile(r"Pointer '(.*)' does not exist"), r"$ref \1 leads to nothing in the schema"),
    (re.compile(r"number out of range.*"), r"it has a number that is beyond what can be counted"),
    (re.compile(r"invalid type: (.*), expected struct JsonCompileOptions.*"), r"x-guidance must be an object, got \1"),
    (re.compile(r"unknown field `(.*?)`, expected one of (.*)"), r"x-guidance has no option \1, but \2"),
)


def followed(schema: Mapping[str, Any], param: str) -> str:
    """The schema as grammars are made of it, as text: closed, and without keywords that grammars cannot say, each told once in the log.

    Answers have one space after commas and colons and none elsewhere: free blanks are where small models spend all their tokens. A client's
    own `x-guidance` goes first.

    Raises:
      RequestError: no answer can follow it, or it asks for what cannot be read; says where in the schema.
    """
    try:
        if is_nested_deeper(schema, _MOST_NESTED):
            raise RecursionError
        plain, unheld = relaxed(closed(without_annotations(schema)))
        for path, pattern in _patterns(plain):
            if ends_in_escape(pattern):
                raise _refusal(param, _known_part(schema, path), "its pattern cannot be read: it ends in a backslash")
        satisfiable = Satisfiable(plain)
        contradiction = satisfiable.contradiction()
        if contradiction:
            raise _refusal(param, _known_part(schema, contradiction.path), f"no answer can follow it: {contradiction.reason}")
        plain, uncounted_keywords = uncounted(satisfiable.pruned())
        text = _text(plain)
        fault = _fault(text)
        if fault:
            is_searched = len(text) < _LONGEST_SEARCHED and not fault.startswith("recursion limit")
            raise _refusal(param, _known_part(schema, _place(plain, fault) or ()) if is_searched else None, _in_words(fault))
        _tell(unheld | uncounted_keywords, text)
    except RecursionError as error:
        raise RequestError(f"{param} cannot be followed: it is nested too deeply", param=param, code="invalid_value") from error
    except ValueError as error:
        raise _refusal(param, None, _UNWRITABLE) from error
    return text


def _tell(unheld: Iterable[str], text: str) -> None:
    """Warns of what answers need not hold."""
    not_one = {"oneOf"} if '"oneOf"' in text and takes_one_of_for_any_of(text) else set[str]()
    for keyword in sorted({*unheld, *not_one}):
        tell_once(keyword, "the keyword %r of a JSON schema is more than grammars can say: answers may go beyond it")


def _patterns(root: Any) -> Iterator[tuple[Path, str]]:
    for path, schema in descendants(root):
        if isinstance(schema, dict):
            names = schema.get("patternProperties")
            found = [schema.get("pattern"), *(names if isinstance(names, dict) else ())]
            yield from ((path, pattern) for pattern in found if isinstance(pattern, str))


def _text(schema: Mapping[str, Any]) -> str:
    """The schema in JSON, for a layout without free blanks.

    Raises:
      ValueError: JSON has no such number or text.
    """
    text = json.dumps({"x-guidance": _OPTIONS, **schema}, ensure_ascii=False, allow_nan=False)
    text.encode()
    return text


def _fault(text: str) -> str:
    """Why no grammar can be made of the text of a schema; empty if one can."""
    return _WHERE.sub("", schema_fault(text))


def _place(root: Mapping[str, Any], fault: str) -> Path | None:
    """The innermost subschema that has the same fault by itself, with the definitions of all; None where too many would be tried."""
    definitions = {key: root[key] for key in ("$defs", "definitions") if key in root}
    places = list(descendants(root))
    if len(places) > _MOST_PLACES:
        return None
    alone = ((path, {**definitions, **schema}) for path, schema in places if isinstance(schema, dict))
    return next((path for path, schema in alone if _fault(_text(schema)) == fault), None)


def _known_part(schema: Mapping[str, Any], path: Path) -> Path:
    """As much of a path as is in the client's own schema."""
    return next(path[:end] for end in range(len(path), -1, -1) if not end or at(schema, path[:end]) is not None)


def _in_words(fault: str) -> str:
    line = " ".join(fault.split())
    for pattern, words in _WORDS:
        if pattern.search(line):
            return pattern.sub(words, line)[:300]
    return line[:300]


def _refusal(param: str, path: Path | None, problem: str) -> RequestError:
    where = f" at {pointer(path)[:200]}" if path else ""
    return RequestError(f"{param} cannot be followed{where}: {problem}", param=param, code="invalid_value")
