"""Schemas that demand endless answers are refused, those that some finite value follows never are."""

import contextlib
import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher

from muxjax.errors import RequestError
from muxjax.server.json_schema import satisfiable
from muxjax.server.json_schema.closing import closed
from muxjax.server.json_schema.follow import followed
from muxjax.server.json_schema.satisfiable import Satisfiable
from tests.server.json_schema.test_follow import BYTES, accepts, accepts_text, random_answer

SELF: dict[str, Any] = {"$ref": "#"}
NULL: dict[str, Any] = {"type": "null"}
MEMBER = {"properties": {"a": SELF}, "required": ["a"]}
ITEM = {"items": SELF, "minItems": 1}
LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
MAP = {"type": "object", "minProperties": 1, "additionalProperties": SELF}


def is_refused(schema: Any) -> bool:
    return Satisfiable(schema).contradiction() is not None


ENDLESS = {
    "a branch beside a type": {"type": "object", "anyOf": [MEMBER]},
    "branches that are all endless": {"type": ["object", "array"], "anyOf": [MEMBER | {"type": "object"}, ITEM | {"type": "array"}]},
    "oneOf beside a type": {"type": "object", "oneOf": [MEMBER]},
    "a list of types": {"type": ["object", "array"], **MEMBER, **ITEM},
    "types in one branch, demands in another": {"allOf": [{"type": ["array", "object"]}, MEMBER, ITEM]},
    "required here, described there": {"type": "object", "required": ["a"], "allOf": [{"properties": {"a": SELF}}]},
    "required behind a reference": {"$ref": "#/$defs/r", "$defs": {"r": {"required": ["a"]}}, "type": "object", "properties": {"a": SELF}},
    "a map": MAP,
    "a map by a pattern of any name": {"type": "object", "minProperties": 1, "patternProperties": {"": SELF}},
    "a map by patterns alone": {"type": "object", "minProperties": 1, "patternProperties": {"^x": SELF}, "additionalProperties": False},
    "a map whose known members are endless": MAP | {"properties": {"a": SELF}},
    "a map over what is required": {**MAP, "minProperties": 2, "properties": {"a": NULL}, "required": ["a"]},
    "a member that only a pattern describes": {"type": "object", "required": ["ab"], "patternProperties": {"^a": SELF}},
    "a member that a pattern describes too": {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {}},
        "patternProperties": {"a": SELF},
    },
    "a member among the others": {"type": "object", "required": ["a"], "additionalProperties": SELF},
    "a first item": {"type": "array", "minItems": 1, "prefixItems": [SELF]},
    "an item after the first": {"type": "array", "minItems": 2, "prefixItems": [NULL], "items": SELF},
    "an item after a list of items": {"type": "array", "minItems": 2, "items": [NULL], "additionalItems": SELF},
    "two items that only together are endless": {
        "type": "array",
        "allOf": [{"prefixItems": [{"type": ["array", "null"]}], "minItems": 1}, {"items": {"anyOf": [SELF, {"type": "string"}]}}],
    },
    "a const of another kind": {"type": "object", "anyOf": [MEMBER, {"const": 5}]},
    "an enum of another kind": {"anyOf": [{"type": "object"} | MEMBER, {"type": "array", "enum": [1, "a"]}]},
    "more items than there may be": {"type": "array", "anyOf": [ITEM, {"minItems": 3, "maxItems": 1}]},
    "more members than there may be": {"type": "object", "anyOf": [MEMBER, {"required": ["a", "b"], "maxProperties": 1}]},
    "only itself": SELF,
    "only itself, by way of a choice": {"anyOf": [SELF, {"allOf": [SELF]}]},
    "itself, or endless": {"type": "object", "anyOf": [SELF, MEMBER]},
    "two definitions, each within the other": {
        "$ref": "#/$defs/a",
        "$defs": {
            "a": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/b"}},
            "b": {"type": "object", "required": ["x"], "additionalProperties": {"$ref": "#/$defs/a"}},
        },
    },
}


@pytest.mark.parametrize("schema", ENDLESS.values(), ids=ENDLESS)
def test_what_demands_an_endless_answer_is_refused_in_words(schema):
    with pytest.raises(RequestError, match=r"cannot be followed.*: (no answer can follow it|oneOf)") as refusal:
        followed(schema, "schema")
    assert refusal.value.status == 400 and is_refused(schema)


FINITE = {
    "a type without demands beside branches that have them": ({"type": ["array", "string"], "anyOf": [MEMBER, ITEM]}, "a"),
    "a kind of which nothing is asked": (MEMBER | ITEM, 5),
    "one of the types": ({"type": ["object", "array"], **MEMBER, "items": SELF}, [[]]),
    "a branch": ({"type": "object", "anyOf": [MEMBER, {"properties": {"a": NULL}, "required": ["a"]}]}, {"a": {"a": None}}),
    "a map that may be empty": (MAP | {"minProperties": 0}, {"a": {}}),
    "a map with a known way out": (MAP | {"properties": {"b": NULL}, "required": ["b"]}, {"b": None}),
    "a map with a way out by a pattern": (MAP | {"patternProperties": {"^x": NULL}}, {"x": None}),
    "a pattern that is not in the name": ({"type": "object", "required": ["a"], "patternProperties": {"^b": SELF}}, {"a": 1}),
    "a name without the pattern": ({"type": "object", "minProperties": 1, "patternProperties": {".": SELF}}, {"": 1}),
    "items that need not be there": ({"type": "array", "minItems": 1, "prefixItems": [NULL], "items": SELF}, [None]),
    "a const": ({"anyOf": [MEMBER | {"type": "object"}, {"const": {"a": 1}}]}, {"a": {"a": 1}}),
    "the same asked twice": (
        {"allOf": [{"$ref": "#/$defs/n"}, {"$ref": "#/$defs/n"}], "$defs": {"n": {"anyOf": [{"$ref": "#/$defs/m"}, NULL]}, "m": NULL}},
        None,
    ),
    "a choice that leads back, and a way out": ({"anyOf": [SELF, NULL]}, None),
    "a base of its own": (
        {
            "type": "object",
            "required": ["a"],
            "properties": {"a": {"$id": "http://x/b", "$ref": "#/$defs/n", "$defs": {"n": NULL}}},
            "$defs": {"n": False},
        },
        {"a": None},
    ),
    "items of the older kind, whose prefixItems ask nothing": (
        {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "minItems": 1, "prefixItems": [SELF], "items": NULL},
        [None],
    ),
}


@pytest.mark.parametrize(("schema", "value"), FINITE.values(), ids=FINITE)
def test_what_some_finite_value_follows_is_served(schema, value):
    assert accepts(schema, value)


def test_a_way_out_that_another_schema_shuts_is_left_out_of_answers():
    shut = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/shut"}}
    both = {
        "allOf": [
            {"anyOf": [{"required": ["a"]}, {"type": "null"}]},
            {"type": ["object", "null"], "additionalProperties": {"$ref": "#/$defs/shut"}},
        ]
    }
    schema = both | {"$defs": {"shut": shut}}
    assert {random_answer(schema, random.Random(seed), 50) for seed in range(5)} == {"null"}


def test_items_of_an_older_schema_ask_nothing_beside_those_of_today():
    schema = {"type": "array", "prefixItems": [NULL], "additionalItems": {"type": "string"}}
    assert accepts(schema, [None, 5]) and not accepts(schema, ["a"])


def test_a_schema_of_too_many_choices_counts_as_finite_soon(monkeypatch):
    choices = [{"anyOf": [{"required": [f"a{place}"]}, {"required": [f"b{place}"]}]} for place in range(300)]
    schema = {"type": "object", "allOf": [*choices, MEMBER]}
    assert not is_refused(schema) and Satisfiable(schema).pruned() == schema
    assert is_refused({"type": "object", "allOf": [*choices[:6], MEMBER]})
    monkeypatch.setattr(satisfiable, "MOST_STEPS", 50)
    assert not is_refused({"type": "object", "allOf": [*choices[:6], MEMBER]})


NAMES = ("a", "b", "ab")
ANY = st.sampled_from(
    [True, {}, NULL, {"type": "string"}, SELF, {"$ref": "#/$defs/e"}, {"type": "object", "required": ["b"]}, MEMBER, ITEM, MAP, False]
)


@st.composite
def endless(draw, depth: int = 0) -> dict[str, Any]:
    """A schema that demands what #/$defs/e does, which is made by this too."""
    if depth > 2 or draw(st.booleans()):
        return {"$ref": "#/$defs/e"}
    below = draw(endless(depth + 1))
    name, rest = draw(st.sampled_from(NAMES)), draw(st.dictionaries(st.sampled_from(NAMES), ANY, max_size=2))
    members: list[dict[str, Any]] = [
        {"properties": rest | {name: below}, "required": [name]},
        {"properties": rest, "patternProperties": {f"^{name}": below}, "required": [f"{name}x"]},
        {"properties": {}, "additionalProperties": below, "required": [name]},
        {"minProperties": draw(st.integers(1, 3)), "additionalProperties": below},
        {"minProperties": 1, "patternProperties": {name: below}, "additionalProperties": False},
        {"required": [name], "allOf": [{"properties": {name: below}}]},
    ]
    items: list[dict[str, Any]] = [
        {"items": below, "minItems": draw(st.integers(1, 3))},
        {"prefixItems": [draw(ANY), below], "minItems": 2},
        {"items": [draw(ANY), below], "minItems": 2, "additionalItems": draw(ANY)},
    ]
    either = {"type": ["object", "array"], **draw(st.sampled_from(members)), **draw(st.sampled_from(items))}
    return draw(
        st.sampled_from(
            [
                {"type": "object", **draw(st.sampled_from(members))},
                {"type": "array", **draw(st.sampled_from(items))},
                either,
                {"type": "object", "anyOf": [draw(st.sampled_from(members)), draw(st.sampled_from(members))]},
                {"anyOf": [below, draw(endless(depth + 1))]},
                {"allOf": [draw(ANY), below]},
                {**below, "type": ["object", "array", "null"]} if "$ref" in below else below,
                {"allOf": [{"type": "array"}, draw(st.sampled_from(items))]},
            ]
        )
    )


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(endless(), endless(depth=0))
def test_whatever_is_endless_by_construction_is_refused(schema, definition):
    schema = {**schema, "$defs": {"e": definition}}
    assert is_refused(schema)
    with pytest.raises(RequestError, match="cannot be followed"):
        followed(schema, "schema")


@st.composite
def schemas_of(draw, value: Any, depth: int = 0) -> Any:
    """A schema that the value follows, among much that it need not follow."""
    if depth > 4:
        return {"const": value}
    below = st.deferred(lambda: schemas_of(value, depth + 1))
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", type(None): "null"}
    kind = draw(st.sampled_from([{}, {"type": kinds[type(value)]}, {"type": ["array", kinds[type(value)], "object"]}]))
    if draw(st.integers(0, 3)) == 0:
        others = [draw(ANY), draw(below)]
        return draw(
            st.sampled_from(
                [
                    {"anyOf": others[:: draw(st.sampled_from([1, -1]))], **kind},
                    {"allOf": [others[1], draw(below)], **kind},
                    {"const": value},
                    {"enum": [5, value, {"a": 1}]},
                    {"allOf": [{"anyOf": [SELF, *others]}, kind]},
                ]
            )
        )
    if isinstance(value, dict):
        named = {name: draw(schemas_of(part, depth + 1)) for name, part in value.items() if draw(st.booleans())}
        others = [draw(schemas_of(part, depth + 1)) for name, part in value.items() if name not in named]
        for_others: Any = draw(
            st.sampled_from(
                [
                    {"additionalProperties": {"anyOf": [*others, draw(ANY)]}},
                    {"patternProperties": {".": {"anyOf": [*others, *named.values()]}}} if others else {},
                ]
            )
        )
        unused = {name: draw(ANY) for name in NAMES if name not in value and draw(st.booleans())}
        return {
            **kind,
            "properties": {**unused, **named},
            "required": [name for name in value if draw(st.booleans())],
            "minProperties": draw(st.integers(0, len(value))),
            **for_others,
        }
    if isinstance(value, list):
        first = [draw(schemas_of(part, depth + 1)) for part in value[: draw(st.integers(0, len(value)))]]
        rest = [draw(schemas_of(part, depth + 1)) for part in value[len(first) :]]
        return {**kind, "prefixItems": first, "items": {"anyOf": [*rest, draw(ANY)]}, "minItems": draw(st.integers(0, len(value)))}
    return kind


VALUES = st.recursive(
    st.sampled_from([None, True, 1, "a"]),
    lambda below: st.one_of(st.lists(below, max_size=2), st.dictionaries(st.sampled_from(NAMES), below, max_size=2)),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), VALUES)
def test_whatever_a_finite_value_follows_is_not_refused(data, value):
    schema = {"$ref": "#/$defs/e", "$defs": {"e": data.draw(schemas_of(value))}}
    assert not is_refused(schema)
    try:
        followed(schema, "schema")
    except RequestError as refusal:
        assert "no answer can follow it" not in str(refusal)


@pytest.mark.parametrize("schema", ENDLESS.values(), ids=ENDLESS)
def test_of_what_is_endless_grammars_make_no_answer_either(schema):
    """Grammars of the schema itself, which is not served: they are refused, they break down, or they find no end."""
    grammar = LLMatcher.grammar_from_json_schema(json.dumps({"x-guidance": LAYOUT, **schema}))
    if LLMatcher.validate_grammar(grammar, None):
        return
    for seed in range(5):
        matcher = LLMatcher(BYTES, grammar, log_level=0)
        with contextlib.suppress(AssertionError):
            assert random_answer(schema, random.Random(seed), 100, matcher) is None
        assert matcher.is_error() or not matcher.is_accepting()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(schemas_of({"a": [None]}), st.integers(0, 2**32))
def test_what_is_left_out_takes_no_answer_away(schema, seed):
    """Answers of the closed schema's own grammar, before anything is left out, are answers of that which is served."""
    schema = closed(schema)
    grammar = LLMatcher.grammar_from_json_schema(json.dumps({"x-guidance": LAYOUT, **schema} if isinstance(schema, dict) else schema))
    assume(isinstance(schema, dict) and not LLMatcher.validate_grammar(grammar, None))
    answer = random_answer(schema, random.Random(seed), 200, LLMatcher(BYTES, grammar, log_level=0))
    assume(answer is not None)
    assert accepts_text(schema, answer or "")
