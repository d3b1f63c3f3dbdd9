"""Clients' JSON schemas: what they say is what answers are, or the refusal says which part of them cannot be."""

import json
import logging
import random
import time
from collections.abc import Mapping
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from muxjax.errors import RequestError
from muxjax.server.json_schema import notices
from muxjax.server.json_schema.fault import takes_one_of_for_any_of
from muxjax.server.json_schema.follow import followed
from muxjax.server.json_schema.relaxed import relaxed, uncounted

BYTES = LLTokenizer("byte")
END = BYTES.eos_token
LIST = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"]}


def matcher_of(schema: Mapping[str, Any]) -> LLMatcher:
    return LLMatcher(BYTES, LLMatcher.grammar_from_json_schema(followed(schema, "schema")), log_level=0)


def accepts(schema: Mapping[str, Any], value: Any) -> bool:
    """The value is a whole answer."""
    return accepts_text(schema, json.dumps(value))


def accepts_text(schema: Mapping[str, Any], text: str) -> bool:
    matcher, tokens = matcher_of(schema), BYTES.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def random_answer(schema: Mapping[str, Any], draw: random.Random, most: int, matcher: LLMatcher | None = None) -> str | None:
    """Bytes drawn of what is allowed; None where there is no end after the most there may be."""
    matcher, answer, bits = matcher or matcher_of(schema), bytearray(), np.zeros(-(-BYTES.vocab_size // 32), np.uint32)
    assert not matcher.get_error()
    for _ in range(most):
        if matcher.is_stopped():
            break
        matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        allowed = np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little")).tolist()
        assert not matcher.is_error() and allowed, f"nothing may follow {bytes(answer)!r}: {matcher.get_error()[:200]}"
        if END in allowed and draw.random() < 0.7:
            break
        ends = [token for token in allowed if token < 256 and chr(token) in '"]},'] if draw.random() < 0.7 else []
        token = draw.choice(ends or [token for token in allowed if token != END])
        answer.append(token)
        assert matcher.consume_token(token), f"nothing may follow {bytes(answer)!r}: {matcher.get_error()[:200]}"
    else:
        return None
    return answer.decode()


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"enum": []}, "enum is empty"),
        ({"type": []}, "type is empty"),
        ({"anyOf": []}, "anyOf is empty"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum (5) is greater than maximum (3)"),
        ({"type": "array", "minItems": 3, "maxItems": 1}, "minItems (3) is greater than maxItems (1)"),
        ({"type": "string", "minLength": 5, "maxLength": 2}, "minLength (5) is greater than maxLength (2)"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "false allows no answer, but there must be a member 'a'"),
        ({"type": "object", "required": ["a"], "propertyNames": {"pattern": "^b"}}, "followed: no answer can follow it: false allows no"),
        ({"type": "object", "required": ["a"], "properties": {"a": False}}, "at #/properties/a: no answer can follow it: false"),
        ({"type": "object", "required": ["a"], "properties": {"a": {"enum": []}}}, "at #/properties/a: no answer can follow it: enum"),
        ({"properties": {"x": {"items": {"$dynamicRef": "#"}}}}, 'at #/properties/x/items: the keywords "$dynamicRef" are not supported'),
        ({"type": "array", "items": {"not": {}}, "minItems": 1}, "at #/items: no answer can follow it: false allows no answer"),
        ({"type": "array", "items": {"type": "integer", "minimum": 2, "maximum": 1}}, None),
        ({"type": "array", "items": {"type": "integer", "minimum": 2, "maximum": 1}, "minItems": 1}, "required item"),
        ({"type": "string", "pattern": r"[^\s\S]"}, "no text matches its pattern"),
        ({"type": "string", "pattern": "^a$", "minLength": 4}, "no text matches its pattern"),
        ({"type": "string", "pattern": r"(a)\1"}, "its pattern cannot be read"),
        ({"type": "string", "pattern": 5}, "'pattern'"),
        ({"items": {"type": "string", "pattern": "a\\"}}, "at #/items: its pattern cannot be read: it ends in a backslash"),
        ({"patternProperties": {"\\": {}}}, "it ends in a backslash"),
        ({"$ref": ""}, "$ref '' leads only to itself"),
        ({"const": 1, "type": "string"}, "type, enum and const contradict each other"),
        ({"type": "integer", "multipleOf": 0}, "multipleOf must be over 0"),
        ({"type": "number", "minimum": float("inf")}, "a number that is not finite"),
        ({"const": "\ud800"}, "text that is not Unicode"),
        ({"type": "strin"}, "strin"),
        ({"$ref": "#"}, "$ref '#' leads only to itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "leads only to itself"),
        ({"$anchor": "a", "$ref": "#a"}, "$ref '#a' leads only to itself"),
        ({"allOf": [{"$ref": "#"}]}, "within itself, without an end"),
        ({"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]}, "is required within itself, without an end"),
        ({"$ref": "#/nowhere"}, "$ref /nowhere leads to nothing"),
        ({"$ref": "https://example.com/a"}, "$ref https://example.com/a is not in the schema"),
        ({"x-guidance": {"lax": True}}, "x-guidance has no option lax"),
        ({"x-guidance": 3}, "x-guidance must be an object, got integer `3`"),
        ({"properties": {"a": {"const": 10**400}}}, "a number that is beyond what can be counted"),
    ],
)
def test_what_no_answer_can_follow_is_refused_in_the_schemas_own_words(schema, words):
    if words is None:
        assert accepts(schema, [])
        return
    with pytest.raises(RequestError) as refusal:
        followed(schema, "tools[0].function.parameters")
    assert words in str(refusal.value) and str(refusal.value).startswith("tools[0].function.parameters cannot be followed")
    assert (refusal.value.status, refusal.value.param) == (400, "tools[0].function.parameters")
    assert len(str(refusal.value)) < 700 and "\n" not in str(refusal.value)


@pytest.mark.parametrize("depth", [130, 900, 5000])
def test_a_schema_that_is_nested_too_deeply_is_refused_soon(depth):
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    begin = time.process_time()
    with pytest.raises(RequestError, match="nested too deeply"):
        followed(schema, "schema")
    assert time.process_time() - begin < 0.5


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("bound", [2**53 + 1, 2**54 + 2 + 1, 2**56 + 5])
def test_bounds_that_are_no_floats_are_held(sign, bound):
    over, under = ("minimum", "maximum") if sign > 0 else ("maximum", "minimum")
    for key, exclusive, outside in (
        (over, False, -sign),
        (under, False, sign),
        ("exclusiveM" + over[1:], True, 0),
        ("exclusiveM" + under[1:], True, 0),
    ):
        schema = {"type": "integer", key: sign * bound}
        assert not accepts(schema, sign * bound + outside)
        assert accepts(schema, sign * bound - outside * 2000) or exclusive


@pytest.mark.parametrize(("minimum", "maximum"), [(0, 2**64 - 1), (-(2**63), 2**63 - 1), (0, 2**63 - 1)])
def test_the_bounds_of_machine_integers_are_taken(minimum, maximum):
    schema = {"type": "integer", "minimum": minimum, "maximum": maximum}
    assert accepts(schema, 5) and accepts(schema, 2**62) and not accepts(schema, minimum - 1) and not accepts(schema, maximum + 1)


def test_recursion_that_has_a_way_out_is_served():
    assert accepts(LIST, {"next": {"next": None}}) and not accepts(LIST, {"next": 5})
    assert accepts({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, None)


@pytest.mark.parametrize("turned", [False, True])
def test_a_long_chain_of_definitions_is_no_recursion_whichever_way_it_leads(turned):
    links = {f"t{i}": {"type": "object", "properties": {"x": {"$ref": f"#/$defs/t{i - 1}"}}, "required": ["x"]} for i in range(1, 90)}
    definitions = {"t0": {"type": "null"}, **links}
    ordered = dict(reversed(definitions.items())) if turned else definitions
    assert matcher_of({"$ref": "#/$defs/t89", "$defs": ordered}).try_consume_tokens(BYTES.tokenize_str('{"x"')) == 4


def test_branches_without_an_end_are_left_out_of_answers():
    endless = {"type": "object", "properties": {"n": {"$ref": "#/$defs/endless"}}, "required": ["n"], "additionalProperties": False}
    schema = {"anyOf": [{"$ref": "#/$defs/endless"}, {"const": 7}], "$defs": {"endless": endless}}
    assert {random_answer(schema, random.Random(seed), 50) for seed in range(5)} == {"7"}


def test_data_that_looks_like_a_schema_is_left_as_it_is():
    value = {"format": "odd", "uniqueItems": False, "anyOf": []}
    assert accepts({"const": value}, value) and accepts({"enum": [value]}, value)
    names = {"type": "object", "properties": {"format": {"const": "path"}}, "required": ["format"], "additionalProperties": False}
    assert accepts(names, {"format": "path"})


@pytest.mark.parametrize(
    "name", "path password binary byte file-path directory-path uuid4 uri-reference regex json-pointer int32 \ud800".split(" ")
)
def test_a_format_that_is_not_known_is_an_annotation(name):
    assert accepts({"type": "object", "properties": {"a": {"type": "string", "format": name}}}, {"a": "any text"})


@pytest.mark.parametrize(
    "name", ["http://json-schema.org/schema#", "https://json-schema.org/draft-07/schema#", "urn:ours", "no uri", "\ud800", "x" * 9999, 5]
)
def test_a_dialect_that_is_not_known_is_an_annotation(name):
    assert accepts({"$schema": name, "type": "object", "properties": {"a": {"$schema": name, "type": "integer"}}}, {"a": 1})


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dialect_is_known_under_either_scheme(scheme):
    schema = {"$schema": f"{scheme}://json-schema.org/draft-04/schema#", "type": "integer", "minimum": 3, "exclusiveMinimum": True}
    assert accepts(schema, 4) and not accepts(schema, 3)


def test_a_format_that_is_known_is_kept():
    for name, good in (("uuid", "ce9fbc6a-94ab-4ce8-93ef-fafb3bdade6b"), ("date-time", "2026-11-28T10:00:00Z"), ("ipv4", "1.2.3.4")):
        schema = {"type": "string", "format": name}
        assert accepts(schema, good) and not accepts(schema, "any text")


def test_a_format_that_is_not_known_is_told_once(caplog, monkeypatch):
    monkeypatch.setattr(notices, "_told", set())
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            followed({"type": "string", "format": "odd-one"}, "schema")
        for place in range(500):
            followed({"type": "string", "format": f"odd-{place}"}, "schema")
    assert caplog.text.count("'odd-one'") == 1
    assert len(caplog.records) == 100, "clients may not fill the log with names"


def test_keywords_that_hold_of_everything_ask_for_nothing():
    assert accepts({"uniqueItems": False, "type": "array"}, [1, 1]) and accepts({"propertyNames": {}, "type": "object"}, {"a": 1})


def test_a_decimal_as_pydantic_writes_it_is_digits_with_or_without_a_point():
    schema = {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}
    for text in ("1", "-0.5", ".5", "7.", "+12.25"):
        assert accepts(schema, text)
    for text in ("", "-", ".", "+.", "a", "1.2.3"):
        assert not accepts(schema, text)


_NAMES = st.sampled_from(["a", "b", "ab"])
_VALUES = st.sampled_from([None, True, 0, 1, -3, 2.5, "", "a", "b\u00e9", [], [1], {}, {"a": 1}])
_COUNTS = st.integers(0, 3)


def _some(**fields) -> st.SearchStrategy[dict[str, Any]]:
    """An object with any of those fields."""
    return st.fixed_dictionaries({}, optional={name.strip("_"): values for name, values in fields.items()})


_TYPES = st.sampled_from(["string", "integer", "number", "boolean", "null", "object", "array"])
_LEAVES = st.one_of(
    st.booleans(),
    _TYPES.map(lambda name: {"type": name}),
    st.builds(lambda values: {"enum": values}, st.lists(_VALUES, max_size=3)),
    st.builds(lambda value: {"const": value}, _VALUES),
    _some(
        type=st.sampled_from(["integer", "number"]), minimum=st.integers(-5, 5), maximum=st.integers(-5, 5), multipleOf=st.integers(-1, 3)
    ),
    _some(
        type=st.just("string"),
        minLength=_COUNTS,
        maxLength=_COUNTS,
        pattern=st.sampled_from(["^a*$", "b", "(", "[^\\s\\S]", "^.{2}$", "a$b"]),
    ),
    _some(type=st.just("string"), format=st.sampled_from(["date", "path", "ipv4", "uuid", "odd", 5])),
    st.sampled_from(["#", "#/$defs/a", "#/$defs/b", "#/properties/a", "#/nowhere", "http://x"]).map(lambda ref: {"$ref": ref}),
    st.sampled_from(
        [{"not": {}}, {"uniqueItems": True}, {"type": []}, {"required": "a"}, {"properties": 5}, {"minimum": "a"}, 5, None, []]
    ),
)


def _composed(below: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = st.dictionaries(_NAMES, below, max_size=2)
    return st.one_of(
        _some(
            type=st.just("object"),
            properties=properties,
            required=st.lists(_NAMES, max_size=2, unique=True),
            additionalProperties=below,
            patternProperties=st.dictionaries(st.just("^b"), below, max_size=1),
            minProperties=_COUNTS,
            maxProperties=_COUNTS,
        ),
        _some(type=st.just("array"), items=below, prefixItems=st.lists(below, max_size=2), minItems=_COUNTS, maxItems=_COUNTS),
        *(st.lists(below, max_size=3).map(lambda schemas, key=key: {key: schemas}) for key in ("anyOf", "oneOf", "allOf")),
    )


_SCHEMAS = st.builds(
    lambda root, a, b: {**root, "$defs": {"a": a, "b": b}},
    st.recursive(_LEAVES, _composed, max_leaves=6).filter(lambda schema: isinstance(schema, dict)),
    st.recursive(_LEAVES, _composed, max_leaves=4),
    st.recursive(_LEAVES, _composed, max_leaves=4),
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(_SCHEMAS, st.integers(0, 2**32))
def test_any_schema_is_refused_by_name_or_its_random_answers_are_valid(schema, seed):
    try:
        text = followed(schema, "schema")
    except RequestError as refusal:
        assert refusal.status == 400 and refusal.param == "schema"
        assert str(refusal).startswith("schema cannot be followed") and len(str(refusal)) < 700
        return
    answer = random_answer(schema, random.Random(seed), 400)
    if answer is None or takes_one_of_for_any_of(text) or any(relax(schema).unheld for relax in (relaxed, uncounted)):
        return
    value = json.loads(answer)
    try:
        validator = jsonschema_rs.validator_for(schema)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError):  # such as allOf of nothing: what it means is anybody's guess
        return
    assert validator.is_valid(value), answer
