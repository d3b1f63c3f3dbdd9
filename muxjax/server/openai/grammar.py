"""Structured outputs: the schema, pattern or grammar that an answer must follow, checked before anything is computed."""

import json
from collections.abc import Mapping
from typing import Any

from llguidance import LLMatcher

from muxjax.errors import RequestError
from muxjax.server.answers.lark import one_of
from muxjax.server.json_schema.fault import grammar_fault, schema_fault
from muxjax.server.json_schema.follow import followed
from muxjax.server.json_schema.patterns import ends_in_escape
from muxjax.server.json_schema.size import require_small
from muxjax.server.openai.fields import MOST_BAD_WORD_CHARACTERS, MOST_BAD_WORDS, Fields, show, strings
from muxjax.types import Grammar, GrammarKind

MOST_CHOICES = 1000
GRAMMAR_FIELDS = frozenset({"response_format", "structured_outputs", "tools", "functions", "text", "output_config", "output_format"})
"""Fields that bring a grammar, in any API."""
_FORMATS = ("text", "json_object", "json_schema")
_COMPILE = {
    GrammarKind.REGEX: LLMatcher.grammar_from_regex,
    GrammarKind.LARK: LLMatcher.grammar_from_lark,
}


def read_grammar(fields: Fields, most: int) -> Grammar | None:
    """The grammar of response_format or structured_outputs.

    Args:
      most: characters that it may have.
    Raises:
      RequestError: both are given, or what one says cannot be read.
    """
    formatted, structured = _response_format(fields, most), _structured_outputs(fields, most)
    if formatted and structured:
        raise fields.error("structured_outputs", "cannot be given together with response_format")
    return formatted or structured


def checked(grammar: Grammar, param: str) -> Grammar:
    """The grammar, a regular expression or one in Lark.

    Raises:
      RequestError: it cannot be compiled.
    """
    try:
        problem = grammar_fault(_COMPILE[grammar.kind](grammar.text))
    except ValueError:
        problem = "it has text that is not Unicode"
    if grammar.kind is GrammarKind.REGEX:
        problem = _of_regex(problem) if problem else _matches_nothing(grammar.text)
    if problem:
        raise RequestError(f"{param} cannot be followed: {' '.join(problem.split())[:300]}", param=param, code="invalid_value")
    return grammar


def _of_regex(problem: str) -> str:
    """The problem without the rule that we put around the expression."""
    return problem.split("(in regex): ", 1)[-1].split("\n   1 | ", 1)[0]


def _matches_nothing(regex: str) -> str:
    """The problem of an expression that no text matches; empty for any other."""
    if ends_in_escape(regex):
        return "it ends in a backslash"
    schema = json.dumps({"type": "string", "pattern": f"^(?:{regex})$"})
    return "no text matches it" if "Regex is empty" in schema_fault(schema) else ""


def _json_schema(schema: Mapping[str, Any], param: str) -> Grammar:
    return Grammar(kind=GrammarKind.JSON_SCHEMA, text=followed(schema, param))


def _response_format(fields: Fields, most: int) -> Grammar | None:
    form = fields.object("response_format")
    if form is None:
        return None
    kind = form.required("type")
    if kind not in _FORMATS:
        raise form.error("type", f"must be one of {', '.join(_FORMATS)}, got {show(kind)}")
    if kind == "text":
        return None
    if kind == "json_object":
        return _json_schema({"type": "object"}, "response_format")
    schema = form.required_object("json_schema")
    schema.flag("strict")
    value, param = schema.required_object("schema").raw, "response_format.json_schema.schema"
    require_small(value, param, most)
    return _json_schema(value, param)


def _structured_outputs(fields: Fields, most: int) -> Grammar | None:
    outputs = fields.object("structured_outputs")
    values = {} if outputs is None else {name: value for name, value in outputs.raw.items() if value is not None}
    if outputs is None or not values:
        return None
    name = next(iter(values))
    if len(values) > 1 or name not in _READERS:
        raise fields.error("structured_outputs", f"must have exactly one of {', '.join(_READERS)}, got {show(sorted(values))}")
    require_small(values[name], outputs.where(name), most)
    grammar = _READERS[name](outputs, name)
    _check_words(fields, outputs)
    return grammar


def _of_json(outputs: Fields, name: str) -> Grammar:
    """A schema, or its text."""
    value, param = outputs.get(name), f"structured_outputs.{name}"
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise outputs.error(name, f"is no JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise outputs.error(name, f"must be a JSON schema, got {show(value)}")
    return _json_schema(value, param)


def _of_text(kind: GrammarKind):
    def read(outputs: Fields, name: str) -> Grammar:
        return checked(Grammar(kind=kind, text=outputs.text(name) or ""), f"structured_outputs.{name}")

    return read


def _of_choice(outputs: Fields, name: str) -> Grammar:
    value = outputs.get(name)
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_CHOICES or not all(isinstance(text, str) and text for text in value):
        raise outputs.error(name, f"must be a list of 1 to {MOST_CHOICES} texts, none of them empty, got {show(value)}")
    if any("\ud800" <= character <= "\udfff" for text in value for character in text):
        raise outputs.error(name, "has text that is not Unicode")
    return checked(Grammar(kind=GrammarKind.LARK, text=f"start: {one_of(value)}"), f"structured_outputs.{name}")


def _check_words(fields: Fields, outputs: Fields) -> None:
    """Raises RequestError: the choices are all bad words."""
    choices = outputs.get("choice")
    words = {word.strip() for word in strings(fields, "bad_words", MOST_BAD_WORDS, MOST_BAD_WORD_CHARACTERS)}
    if choices and words.issuperset(choice.strip() for choice in choices):
        raise fields.error("bad_words", "forbid every choice of structured_outputs", code="invalid_value")


_READERS = {"json": _of_json, "regex": _of_text(GrammarKind.REGEX), "choice": _of_choice, "grammar": _of_text(GrammarKind.LARK)}
