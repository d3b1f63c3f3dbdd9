"""Keywords that grammars cannot say are said otherwise, or left out and named; nothing that a schema allows is taken away."""

import logging
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muxjax.server.json_schema import notices
from muxjax.server.json_schema.follow import followed
from muxjax.server.json_schema.look_around import without_looking
from muxjax.server.json_schema.relaxed import relaxed
from tests.server.json_schema.test_follow import accepts

LETTERS = {"type": "string", "enum": ["a", "b", "c"]}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"not": {"type": "null"}}, [1, "a", {}], [None]),
        ({"not": {"const": None}}, [1, "a"], [None]),
        ({"type": ["string", "null"], "not": {"type": "null"}}, ["a"], [None]),
        ({"not": {"type": ["string", "number"]}}, [None, True], ["a", 1, 1.5]),
        ({"type": ["integer", "string"], "not": {"type": "integer", "description": "no"}}, ["a"], [1]),
        ({**LETTERS, "not": {"const": "b"}}, ["a", "c"], ["b"]),
        ({"enum": [1, True, "x"], "not": {"enum": [1.0]}}, [True, "x"], [1]),
        ({"type": "object", "propertyNames": {"enum": ["a", "b"]}}, [{}, {"a": 1}], [{"c": 1}]),
        ({"propertyNames": {"const": "x.y"}, "additionalProperties": {"type": "integer"}}, [{"x.y": 1}], [{"x.y": "t"}, {"xzy": 1}]),
        ({"type": "object", "propertyNames": {"pattern": "^a", "type": "string"}}, [{"ab": 1}], [{"b": 1}]),
        ({"properties": {"a": {"type": "integer"}, "b": True}, "propertyNames": {"enum": ["a"]}}, [{"a": 1}], [{"b": 1}, {"a": "t"}]),
        ({"type": "string", "pattern": r"^(?=.*[0-9])(?=.*[a-z])[0-9a-z]{3}$"}, ["a1b", "12c"], ["abc", "123", "a1"]),
        ({"type": "string", "pattern": r"^(?=a|b)[a-c]+$"}, ["ac", "bc"], ["ca"]),
        ({"properties": {"a": {}, "b": {}}, "minProperties": 0, "maxProperties": 2}, [{"a": 1}], [{"c": 1}]),
        ({"if": {"type": "string"}}, [1, "a"], []),
        ({"type": "array", "uniqueItems": False, "contains": {"const": 1}, "minContains": 0}, [[1, 1]], []),
    ],
)
def test_what_can_be_said_otherwise_is_held_and_not_told(schema, good, bad, caplog, monkeypatch):
    monkeypatch.setattr(notices, "_told", set())
    assert all(accepts(schema, value) for value in good)
    assert not any(accepts(schema, value) for value in bad)
    assert not caplog.records


@pytest.mark.parametrize(
    ("schema", "keyword", "value"),
    [
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "uniqueItems", [1, 2]),
        ({"not": {"type": "integer"}}, "not", 1.5),
        ({"not": {"properties": {"a": {"type": "integer"}}}}, "not", {"a": "t"}),
        ({"type": "array", "contains": {"const": 1}}, "contains", [1]),
        ({"if": {"type": "string"}, "then": {"minLength": 2}, "else": True}, "if", "ab"),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, "dependentRequired", {"a": 1, "b": 2}),
        ({"type": "object", "propertyNames": {"maxLength": 3}}, "propertyNames", {"abc": 1}),
        ({"type": "object", "propertyNames": {"pattern": "^a", "maxLength": 3}}, "propertyNames", {"abc": 1}),
        ({"prefixItems": [True], "unevaluatedItems": False}, "unevaluatedItems", [1]),
        ({"type": "object", "properties": {"a": {}, "b": {}}, "minProperties": 1}, "minProperties", {"a": 1}),
        ({"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 3}]}, "oneOf", 1),
        ({"type": "string", "pattern": "^(?!b)[a-z]+$"}, "pattern", "abc"),
        ({"type": "string", "pattern": r"^\babc\b$"}, "pattern", "abc"),
    ],
)
def test_what_cannot_be_said_is_left_out_and_told_once(schema, keyword, value, caplog, monkeypatch):
    monkeypatch.setattr(notices, "_told", set())
    with caplog.at_level(logging.WARNING):
        assert accepts(schema, value)
        followed(schema, "schema")
    assert [repr(keyword) in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize(
    ("pattern", "left", "also"),
    [
        ("^(?=a)b", "^b", ("^(?:a)",)),
        (r"^(?=\))[(?=]b", "^[(?=]b", (r"^(?:\))",)),
        ("a(?!b(c)[)])d", "ad", ()),
        (r"\(?=a\b", r"\(?=a", ()),
        (r"[\]\b(?=]x", r"[\]\b(?=]x", ()),
        ("^(?=a)b|c", "^b|c", ()),
        ("^(?=(?!a)b)c", "^c", ()),
        ("(?<=a)b(?<!c)", "b", ()),
        ("(?<name>a)(?:b)", "(?<name>a)(?:b)", ()),
        ("a(?=", "a(?=", ()),
        ("a\\", "a\\", ()),
    ],
)
def test_groups_that_look_go_and_nothing_that_is_like_them(pattern, left, also):
    look = without_looking(pattern)
    assert (look.pattern, look.also) == (left, also)
    assert look.is_same == ((left == pattern) or bool(also))


_BELOW = st.sampled_from([{}, True, False, {"type": "null"}, {"type": ["integer", "string"]}, {"const": 1}, {"enum": [None]}, LETTERS])
_SCHEMAS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "object", "array", ["integer", "null"], "number"]),
        "enum": st.just([1, True, "a", None, {"a": 1}]),
        "not": _BELOW,
        "properties": st.just({"a": {"type": "integer"}}),
        "additionalProperties": _BELOW,
        "propertyNames": st.sampled_from([{"enum": ["a", "b"]}, {"pattern": "^a"}, {"const": "b"}, {"minLength": 2}, True, LETTERS]),
        "pattern": st.sampled_from(["^(?=a)[ab]+$", "a(?!b)"]),
        **dict.fromkeys(("uniqueItems",), st.booleans()),
        **dict.fromkeys(("contains", "if", "then", "else", "unevaluatedItems"), _BELOW),
    },
)
_VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 1, 1.5, "a", "ab", "b", [], [1, 1], [2, 1], {}, {"a": 1}, {"a": "t"}, {"b": 1}, {"ab": 1}]
)


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(_SCHEMAS, _VALUES)
def test_nothing_is_taken_away_and_what_is_left_out_is_named(schema, value):
    before = jsonschema_rs.validator_for(schema).is_valid(value)
    said, unheld = relaxed(schema)
    after = jsonschema_rs.validator_for(said).is_valid(value)
    assert after or not before
    assert before or not after or unheld
