"""Objects have the members that their schemas name, wherever those stand, and others only where a schema says so."""

import json
import random
import time
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muxjax.server.json_schema.closing import closed
from tests.server.json_schema.test_follow import accepts

INT, TEXT = {"type": "integer"}, {"type": "string"}
A, B = {"type": "object", "properties": {"a": INT}}, {"type": "object", "properties": {"b": INT}}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (A, {"a": 1}),
        ({"type": "object", "properties": {"x": A}}, {"x": {"a": 1}}),
        ({"type": "array", "items": A}, [{"a": 1}]),
        ({"anyOf": [A, TEXT]}, {"a": 1}),
        ({"$ref": "#/$defs/a", "$defs": {"a": A}}, {"a": 1}),
        ({"description": "one", "allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": A}}, {"a": 1}),
        ({"allOf": [A, B]}, {"a": 1, "b": 2}),
        ({"allOf": [{"$ref": "#/$defs/a"}, {**B, "required": ["b"]}], "$defs": {"a": A}}, {"a": 1, "b": 2}),
        ({**A, "anyOf": [B, {"required": ["a"]}]}, {"a": 1, "b": 2}),
        ({**A, "required": ["c"]}, {"a": 1, "c": "anything"}),
        ({**A, "patternProperties": {"^p": INT}}, {"a": 1, "p1": 2}),
        ({"allOf": [A, {"patternProperties": {"^p": INT}}]}, {"a": 1, "p1": 2}),
        ({"allOf": [A, B], "unevaluatedProperties": False}, {"a": 1, "b": 2}),
        ({**A, "unevaluatedProperties": TEXT}, {"a": 1, "other": "text"}),
    ],
)
def test_members_that_nobody_named_cannot_be(schema, value):
    def widened(value: Any) -> Any:
        return [widened(item) for item in value] if isinstance(value, list) else {**value, "invented": 1}

    assert accepts(schema, value)
    inner = {"x": widened(value["x"])} if "x" in value else widened(value)
    assert not accepts(schema, inner)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {**A, "additionalProperties": True},
        {**A, "additionalProperties": INT},
        {"allOf": [A, {"additionalProperties": True}]},
        {**A, "minProperties": 2, "required": ["a"]},
        {**A, "enum": [{"a": 1, "other": 2}]},
    ],
)
def test_objects_stay_open_where_a_schema_says_so_or_must_have_more(schema):
    assert accepts(schema, {"a": 1, "other": 2})


def test_what_others_build_upon_is_left_open_for_them():
    schema = {
        "type": "object",
        "properties": {"pet": {"$ref": "#/$defs/pet"}, "dog": {"allOf": [{"$ref": "#/$defs/pet"}, B]}},
        "$defs": {"pet": A},
    }
    assert accepts(schema, {"pet": {"a": 1}, "dog": {"a": 1, "b": 2}})
    assert not accepts(schema, {"dog": {"a": 1, "b": 2, "c": 3}})


_LEAVES = st.sampled_from([{}, INT, TEXT, {"$ref": "#/$defs/d"}, {"required": ["a"]}, {"minProperties": 2}, {"enum": [{"a": 1}]}, A, B])


def _composed(below: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(["a", "b", "c"])
    return st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(names, below, max_size=2),
            "patternProperties": st.dictionaries(st.just("^c"), below, max_size=1),
            "additionalProperties": st.booleans() | below,
            "unevaluatedProperties": st.booleans(),
            "required": st.lists(names, max_size=2, unique=True),
            **{key: st.lists(below, min_size=1, max_size=2) for key in ("anyOf", "allOf")},
            "not": below,
        },
    )


_SCHEMAS = st.recursive(_LEAVES, _composed, max_leaves=6)
_VALUES = st.recursive(
    st.sampled_from([1, "t"]), lambda below: st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), below, max_size=3), max_leaves=5
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(_SCHEMAS, _SCHEMAS, _VALUES)
def test_whatever_follows_the_closed_schema_follows_the_clients(schema, other, value):
    root = {"$defs": {"d": other}, **schema}
    if any("unevaluatedProperties" in json.dumps(one) for one in (schema, other)):
        return  # of which branches of anyOf are told apart, and here are not
    try:
        is_valid = jsonschema_rs.validator_for(root).is_valid(value)
        follows = jsonschema_rs.validator_for(closed(root)).is_valid(value)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, RecursionError):
        return
    assert is_valid or not follows or '"not"' in json.dumps(root)


def test_a_large_schema_is_not_walked_through_again_for_each_that_refers_to_it():
    large = {"type": "object", "properties": {f"n{place}": INT for place in range(2000)}}
    users = {f"u{place}": {"allOf": [{"$ref": "#/$defs/large"}, {"required": ["n1"]}]} for place in range(2000)}
    begin = time.process_time()
    closed({"type": "object", "properties": users, "$defs": {"large": large}})
    assert time.process_time() - begin < 3


def test_the_clients_schema_is_not_changed():
    schema = {"allOf": [A, B], "properties": {"x": {**A}}}
    before = json.dumps(schema)
    closed(schema)
    assert json.dumps(schema) == before and random.Random(0)
