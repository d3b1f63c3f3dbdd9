"""Grammars of answers with calls: what is said is free, and a call that is begun has to be whole; read by the same form's reader."""

import json
from collections.abc import Sequence

import pytest
from llguidance import LLMatcher

from muxjax.server.answers.dialect import Dialect, dialect_of
from muxjax.server.answers.form import AnswerForm
from muxjax.server.answers.tools import Tool, ToolUse
from muxjax.server.json_schema.follow import followed
from muxjax.types import Grammar, GrammarKind
from tests.server.answers.reading import parts_of
from tests.server.answers.words import LETTERS, TOKENS, Words


def tool(name: str, properties: dict, required: Sequence[str] = ()) -> Tool:
    schema = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
    return Tool(name=name, schema=followed(schema, name), description={})


TOOLS = (tool("f", {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "boolean"}}, ["b"]), tool("g-2", {}))


def form(calls: str, words: Words = TOKENS, *, template: str = "", reasoning: str = "none", opened: bool = False, **use) -> AnswerForm:
    dialect = dialect_of(template, words.marks, ends=[1], tool_call_parser=calls, reasoning_parser=reasoning)
    return AnswerForm(tools=ToolUse(tools=TOOLS, **{"must_call": False, **use}), dialect=dialect, opened=opened)


def follows(grammar: Grammar | None, text: str, words: Words = TOKENS) -> bool:
    """Whether it is an answer, from the first token to its end."""
    assert grammar is not None and grammar.kind is GrammarKind.LARK
    matcher = LLMatcher(words.theirs, LLMatcher.grammar_from_lark(grammar.text), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    for token in words.ours.encode(text).ids:
        if not matcher.compute_bitmask()[token // 8] >> token % 8 & 1:
            return False
        matcher.consume_token(token)
    return matcher.is_accepting()


def hermes(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def llama(name: str, arguments: str) -> str:
    return f'{{"name": "{name}", "parameters": {arguments}}}'


B = '{"b": "x"}'
CALLED = {
    "hermes": ("hermes", "", hermes("f", B), hermes("f", B) + "\n" + hermes("g-2", "{}"), hermes("f", "{}"), hermes("h", "{}")),
    "llama": ("llama3_json", "", llama("f", B), llama("f", B) + "; " + llama("g-2", "{}"), llama("f", "{}"), "<|python_tag|>h.call()"),
    "mistral": (
        "mistral",
        "",
        f'[TOOL_CALLS] [{{"name": "f", "arguments": {B}}}]',
        f'[TOOL_CALLS][{{"name": "f", "arguments": {B}}}, {{"name": "g-2", "arguments": {{}}}}]',
        '[TOOL_CALLS][{"name": "f", "arguments": {}}]',
        "[TOOL_CALLS]f[ARGS]{}",
    ),
    "mistral with marks": (
        "mistral",
        "[ARGS]",
        f"[TOOL_CALLS]f[ARGS]{B}",
        f"[TOOL_CALLS]f[ARGS]{B}[TOOL_CALLS]g-2[ARGS]{{}}",
        "[TOOL_CALLS]f[ARGS]{}",
        "[TOOL_CALLS]h[ARGS]{}",
    ),
    "mistral with ids": (
        "mistral",
        "[CALL_ID] [ARGS]",
        f"[TOOL_CALLS]f[CALL_ID]a1b2c3d4e[ARGS]{B}",
        f"[TOOL_CALLS]f[CALL_ID]a1b2c3d4e[ARGS]{B}[TOOL_CALLS]g-2[CALL_ID]a1b2c3d4f[ARGS]{{}}",
        "[TOOL_CALLS]f[CALL_ID]a1b2c3d4e[ARGS]{}",
        "[TOOL_CALLS]f[CALL_ID]short[ARGS]{}",
    ),
    "pythonic": ("pythonic", "", '[f(b="x")]', '[f(a=1, b="x", c=true), g-2()]', "[f(a=1)]", '[f(b="x", a=1)]'),
}


@pytest.mark.parametrize(("calls", "template", "one", "two", "incomplete", "wrong"), CALLED.values(), ids=CALLED)
class TestEachFormat:
    """What holds for the writing of each family."""

    def test_a_call_that_is_begun_is_whole(self, calls, template, one, two, incomplete, wrong):
        grammar = form(calls, template=template).grammar()
        assert follows(grammar, one) and follows(grammar, two)
        assert not follows(grammar, incomplete) and not follows(grammar, wrong) and not follows(grammar, one[:-1])

    def test_what_is_said_is_free(self, calls, template, one, two, incomplete, wrong):
        grammar = form(calls, template=template).grammar()
        for text in ("", "Hello.\n\n{} [1](x)", '{"name": "Bob"}', "[1, 2]", "<table>", "< tool_call"):
            assert follows(grammar, text), text

    def test_a_required_call_comes_alone(self, calls, template, one, two, incomplete, wrong):
        grammar = form(calls, template=template, must_call=True).grammar()
        assert follows(grammar, one) and follows(grammar, two)
        assert not follows(grammar, "") and not follows(grammar, "Hi. " + one) and not follows(grammar, incomplete)

    @pytest.mark.parametrize("must_call", [False, True])
    def test_there_may_be_one_call_only(self, calls, template, one, two, incomplete, wrong, must_call):
        grammar = form(calls, template=template, must_call=must_call, many=False).grammar()
        assert follows(grammar, one) and not follows(grammar, two)

    def test_reasoning_goes_first(self, calls, template, one, two, incomplete, wrong):
        grammar = form(calls, template=template, reasoning="qwen3").grammar()
        for text in (one, "Hi.", f"<think>\nso {one[:9]}\n</think>\n\n{one}", "<think>a</think>\nHi.", "<think>no end"):
            assert follows(grammar, text), text
        assert not follows(grammar, "<think>a</think>" + incomplete)
        opened = form(calls, template=template, reasoning="qwen3", opened=True, must_call=True).grammar()
        assert follows(opened, f"\nso\n</think>\n\n{two}") and not follows(opened, one) and not follows(opened, "a</think>Hi.")

    def test_the_reader_reads_what_the_grammar_writes(self, calls, template, one, two, incomplete, wrong):
        written = form(calls, template=template)
        read = parts_of(written.reader(), two)
        assert [call.name for call in read.calls] == ["f", "g-2"] and read.text == ""
        assert json.loads(read.calls[0].arguments)["b"] == "x" and read.calls[1].arguments == "{}"


def test_marks_that_are_no_tokens_begin_a_call_too():
    grammar = form("hermes", LETTERS).grammar()
    one = hermes("f", B)
    for text in ("", "<tool_", "Hi. " + one, one + "\n" + one + "\nBye."):
        assert follows(grammar, text, LETTERS), text
    assert not follows(grammar, "<tool_call>x", LETTERS) and not follows(grammar, hermes("f", "{}"), LETTERS)
    reasoned = form("hermes", LETTERS, reasoning="deepseek_r1", opened=True).grammar()
    assert follows(reasoned, "so\n</think>\n\nHi. " + one, LETTERS) and not follows(reasoned, "a</think><tool_call>x", LETTERS)
    bare = form("llama3_json", LETTERS, reasoning="qwen3").grammar()
    assert follows(bare, "<think>a</think>\n\n" + llama("f", B), LETTERS) and not follows(bare, llama("f", "{}"), LETTERS)


def test_letters_of_a_mark_that_is_a_token_are_no_way_around_it():
    letters = [TOKENS.ours.get_vocab()[letter] for letter in "<tool_call>"]
    grammar = form("hermes").grammar()
    assert grammar is not None
    matcher = LLMatcher(TOKENS.theirs, LLMatcher.grammar_from_lark(grammar.text), log_level=0)
    for token in letters[:-1]:
        matcher.consume_token(token)
    assert not matcher.compute_bitmask()[letters[-1] // 8] >> letters[-1] % 8 & 1


SCHEMA = Grammar(kind=GrammarKind.JSON_SCHEMA, text=followed({"type": "object", "properties": {"name": {"const": "x"}}}, "p"))
FORMS = {
    "a schema": (SCHEMA, '{"name": "x"}'),
    "a pattern": (Grammar(kind=GrammarKind.REGEX, text="a/b|c\nd|\\/e"), "a/b"),
    "Lark": (Grammar(kind=GrammarKind.LARK, text='start: a "y"\na: "x"'), "xy"),
}


@pytest.mark.parametrize(("wanted", "answer"), FORMS.values(), ids=FORMS)
def test_an_answer_that_calls_nothing_has_the_form_that_is_asked_for(wanted, answer):
    grammar = form("hermes").grammar(wanted)
    assert follows(grammar, answer) and follows(grammar, hermes("f", B))
    assert not follows(grammar, "Hi.") and not follows(grammar, "Hi. " + hermes("f", B))
    assert follows(form("llama3_json").grammar(wanted), "<|python_tag|>" + llama("f", B))
    assert follows(form("hermes", reasoning="qwen3", opened=True).grammar(wanted), f"so\n</think>\n{answer}")


def test_a_form_that_calls_begin_like_is_excluded():
    assert form("llama3_json", LETTERS).excludes(SCHEMA) and form("pythonic", LETTERS).excludes(SCHEMA)
    assert not form("llama3_json").excludes(SCHEMA) and not form("hermes").excludes(SCHEMA) and not form("pythonic").excludes(None)


def test_llama_4_calls_behind_its_mark():
    grammar = form("pythonic").grammar()
    assert follows(grammar, '<|python_start|>[f(b="x")]<|python_end|>') and not follows(grammar, "<|python_start|>[f(b=1)]")


def test_tools_that_may_not_be_called_are_none_of_the_grammar():
    uncalled = Tool(name="f", schema="", description={})
    dialect = form("hermes").dialect
    grammar = AnswerForm(tools=ToolUse(tools=(uncalled, TOOLS[1]), must_call=False), dialect=dialect).grammar()
    assert follows(grammar, hermes("g-2", "{}")) and not follows(grammar, hermes("f", B))


def test_a_named_tool_is_called_in_the_models_own_words_where_they_are_known():
    f = TOOLS[0]
    use = ToolUse(tools=(f, Tool(name="g-2", schema="", description={})), named=f, many=False)
    own = AnswerForm(tools=use, dialect=form("hermes").dialect)
    assert follows(own.grammar(), hermes("f", B)) and not follows(own.grammar(), hermes("g-2", "{}"))
    assert AnswerForm(tools=use).grammar() == Grammar(kind=GrammarKind.JSON_SCHEMA, text=f.schema)
    thinking = AnswerForm(tools=use, dialect=Dialect(reasoning=form("hermes", reasoning="qwen3").dialect.reasoning), opened=True)
    assert follows(thinking.grammar(), "hm</think>" + B, LETTERS)
    assert parts_of(thinking.reader(), "hm</think>" + B) == ("", "hm", (("f", B),))


def test_arguments_of_python_go_by_name_in_their_order_and_optional_ones_may_be_left_out():
    grammar = form("pythonic").grammar()
    for arguments, good in (
        ('b="x"', True),
        ('a=1, b="x"', True),
        ('b="x", c=false', True),
        ("", False),
        ("c=true", False),
        ('b="x", b="x"', False),
    ):
        assert follows(grammar, f"[f({arguments})]") is good, arguments
    anything = Tool(name="h", schema=followed({"type": "object", "additionalProperties": True}, "h"), description={})
    free = AnswerForm(tools=ToolUse(tools=(anything,), must_call=False), dialect=form("pythonic").dialect).grammar()
    assert follows(free, '[h(any_1={"a": [1]}, x="y")]') and follows(free, "[h()]") and not follows(free, "[h(1)]")
