"""What clients may say of an answer's form, held against llguidance over single bytes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from muxjax.errors import RequestError
from muxjax.server.json_schema.size import characters
from muxjax.server.openai import grammar
from muxjax.server.openai.fields import Fields
from muxjax.server.openai.grammar import read_grammar
from muxjax.types import Grammar, GrammarKind

COMPILE = {
    GrammarKind.JSON_SCHEMA: LLMatcher.grammar_from_json_schema,
    GrammarKind.REGEX: LLMatcher.grammar_from_regex,
    GrammarKind.LARK: LLMatcher.grammar_from_lark,
}
MOST = 2**17
BYTES = LLTokenizer("byte")
PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}, "required": ["name", "age"]}


def accepts(grammar: Grammar, answer: str) -> bool:
    """The answer is a whole one."""
    matcher = LLMatcher(BYTES, COMPILE[grammar.kind](grammar.text))
    tokens = BYTES.tokenize_str(answer)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def grammar_of(**body) -> Grammar:
    grammar = read_grammar(Fields(body), MOST)
    assert grammar is not None
    return grammar


def test_a_schema_comes_with_a_name_or_without():
    named = grammar_of(response_format={"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}})
    for form in (named, grammar_of(structured_outputs={"json": PERSON}), grammar_of(structured_outputs={"json": json.dumps(PERSON)})):
        assert accepts(form, '{"name": "Bo", "age": 3}')
        assert not accepts(form, '{"name": "Bo", "age": "3"}')
        assert not accepts(form, '{"name": "Bo"}')


def test_there_is_no_room_for_blanks():
    grammar = grammar_of(structured_outputs={"json": PERSON})
    assert not accepts(grammar, '{"name":  "Bo", "age": 3}')
    assert not accepts(grammar, '{\n"name": "Bo", "age": 3}')
    free = grammar_of(structured_outputs={"json": {"x-guidance": {"whitespace_flexible": True}, **PERSON}})
    assert accepts(free, '{\n"name":  "Bo", "age": 3}')


def test_a_json_object_is_any_object_but_no_list():
    grammar = grammar_of(response_format={"type": "json_object"})
    assert accepts(grammar, '{"a": [1, {"b": null}]}')
    assert not accepts(grammar, "[1]")


def test_a_pattern_is_the_whole_answer():
    grammar = grammar_of(structured_outputs={"regex": "[ab]+c"})
    assert accepts(grammar, "abac")
    assert not accepts(grammar, "abacx")


def test_a_grammar_is_in_lark():
    grammar = grammar_of(structured_outputs={"grammar": 'start: "yes" | "no" NUMBER\nNUMBER: /[0-9]/'})
    assert accepts(grammar, "no7")
    assert not accepts(grammar, "no")


@given(
    choices=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=6), min_size=1, max_size=4),
    other=st.text('ab.*\\"', max_size=4),
)
def test_a_choice_is_one_of_its_texts_to_the_letter(choices, other):
    grammar = grammar_of(structured_outputs={"choice": choices})
    assert all(accepts(grammar, choice) for choice in choices)
    assert accepts(grammar, other) == (other in choices)


@pytest.mark.parametrize(
    "body", [{}, {"response_format": {"type": "text"}}, {"structured_outputs": {}}, {"structured_outputs": {"json": None}}]
)
def test_no_form_is_no_grammar(body):
    assert read_grammar(Fields(body), MOST) is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": ["text"]}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "strin"}}}}, "response_format.json_schema.schema"),
        ({"response_format": "json"}, "response_format"),
        ({"structured_outputs": {"json": 5}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        ({"structured_outputs": {"regex": "("}}, "structured_outputs.regex"),
        ({"structured_outputs": {"regex": 5}}, "structured_outputs.regex"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"choice": ["a", ""]}}, "structured_outputs.choice"),
        ({"structured_outputs": {"grammar": "start: nothing"}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
        ({"structured_outputs": {"xgrammar": "a"}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "structured_outputs"),
    ],
)
def test_a_form_that_cannot_be_followed_is_named(body, param):
    with pytest.raises(RequestError) as error:
        read_grammar(Fields(body), MOST)
    assert (error.value.param, error.value.status) == (param, 400)
    assert len(str(error.value)) < 480


def test_a_schema_too_deep_is_refused():
    schema = {"type": "object"}
    for _ in range(200):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(RequestError, match=r"structured_outputs.json cannot be followed: it is nested too deeply"):
        read_grammar(Fields({"structured_outputs": {"json": schema}}), MOST)


LARGE = {"type": "object", "properties": {f"member {place}": {"const": place} for place in range(20)}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"structured_outputs": {"json": LARGE}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": json.dumps(LARGE)}}, "structured_outputs.json"),
        ({"structured_outputs": {"regex": "a" * 301}}, "structured_outputs.regex"),
        ({"structured_outputs": {"grammar": 'start: "a"' + " " * 300}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"choice": ["a" * 80, "b" * 80, "c" * 80, "d" * 80]}}, "structured_outputs.choice"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": LARGE}}}, "response_format.json_schema.schema"),
    ],
)
def test_a_grammar_has_a_largest_size_which_is_told(body, param, monkeypatch):
    assert read_grammar(Fields(body), 2000) is not None
    monkeypatch.setattr(grammar, "followed", lambda *_: pytest.fail("something was made of it"))
    monkeypatch.setattr(grammar, "checked", lambda *_: pytest.fail("something was made of it"))
    with pytest.raises(RequestError, match=f"{param} has more than 300 characters, which is the most") as error:
        read_grammar(Fields(body), 300)
    assert (error.value.param, error.value.status) == (param, 400)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda more: st.lists(more) | st.dictionaries(st.text(), more)))
def test_the_size_of_a_schema_is_about_that_of_its_json(value):
    exact = characters(value, 10**9)
    assert exact >= sum(map(len, texts(value)))
    assert exact <= 8 * len(json.dumps(value, ensure_ascii=False))
    assert (characters(value, exact - 1) > exact - 1) and characters(value, exact) == exact


def texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for item in value.values() for text in texts(item))]
    return [text for item in value for text in texts(item)] if isinstance(value, list) else [value] if isinstance(value, str) else []


@pytest.mark.parametrize("regex", [r"[^\s\S]", r"a*[^\s\S]", r"[^\x00-\x{10FFFF}]"])
def test_a_pattern_that_nothing_matches_is_refused(regex):
    with pytest.raises(RequestError, match=r"structured_outputs.regex cannot be followed: no text matches it"):
        grammar_of(structured_outputs={"regex": regex})
    assert accepts(grammar_of(structured_outputs={"regex": f"b|{regex}"}), "b")


@pytest.mark.parametrize("regex", ["\\", "a\\", "a\\\\\\"])
def test_a_pattern_that_ends_in_a_backslash_is_refused_unless_that_is_escaped(regex):
    with pytest.raises(RequestError, match=r"structured_outputs.regex cannot be followed: it ends in a backslash"):
        grammar_of(structured_outputs={"regex": regex})
    assert accepts(grammar_of(structured_outputs={"regex": r"a\\"}), "a\\")


@pytest.mark.parametrize("wish", [{"regex": "("}, {"regex": "\ud800"}, {"choice": ["\ud800"]}, {"json": {"const": "\ud800"}}])
def test_refusals_do_not_tell_of_the_grammar_behind_a_form(wish):
    with pytest.raises(RequestError) as error:
        grammar_of(structured_outputs=wish)
    assert "start:" not in str(error.value) and "\n" not in str(error.value)


def test_a_choice_of_bad_words_only_is_refused():
    wish = {"structured_outputs": {"choice": ["yes", "no"]}}
    assert accepts(grammar_of(**wish, bad_words=["yes"]), "no")
    with pytest.raises(RequestError, match=r"bad_words forbid every choice of structured_outputs") as error:
        grammar_of(**wish, bad_words=[" yes", "no"])
    assert (error.value.param, error.value.status) == ("bad_words", 400)
