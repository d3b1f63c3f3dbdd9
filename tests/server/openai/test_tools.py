"""Tools: which must be called, what the answer then is, and how it is told."""

import json

import pytest

from muxjax.errors import RequestError
from muxjax.server.answers.form import AnswerForm
from muxjax.server.openai.fields import Fields
from muxjax.server.openai.tools import read_tools
from muxjax.server.text.template import ChatTemplate
from muxjax.server.text.tokenizer import ByteTokenizer
from muxjax.types import Grammar
from tests.server.kit import served
from tests.server.openai.test_grammar import accepts
from tests.server.speaking import Paced

MODEL = served(ByteTokenizer(300), "m", template=ChatTemplate("{{ tools }}{{ messages }}", {}))
"""One that is shown tools, and whose way of writing calls nobody knows."""
HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"$ref": "#/$defs/City"}},
            "required": ["city"],
            "additionalProperties": False,
            "$defs": {"City": {"type": "string"}},
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"additionalProperties": True}}}
NAMED = {"type": "function", "function": {"name": "weather"}}
CALLS = '[{"name": "weather", "parameters": {"city": "a}\\"{"}}, {"name": "clock", "parameters": {"a": {}}}]'


def allowed(mode: str, *names: object) -> dict:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def grammar_of(**body) -> Grammar:
    use = read_tools(Fields({"tools": [WEATHER, CLOCK], **body}), MODEL)
    assert use is not None
    grammar = AnswerForm(tools=use).grammar()
    assert grammar is not None
    return grammar


def test_a_named_tools_arguments_are_the_answer():
    grammar = grammar_of(tool_choice=NAMED)
    assert accepts(grammar, '{"city": "Rome"}')
    assert not accepts(grammar, '{"town": "Rome"}')
    assert not accepts(grammar, '{"city": 5}')


def test_a_required_call_is_one_of_the_tools_with_its_own_arguments():
    grammar = grammar_of(tool_choice="required")
    assert accepts(grammar, CALLS)
    assert not accepts(grammar, '[{"name": "weather", "parameters": {"city": 5}}]')
    assert not accepts(grammar, '[{"name": "other", "parameters": {}}]')
    assert not accepts(grammar, "[]")


NAMES_NONE = [{"type": "object"}, {"type": "object", "properties": {}, "required": [], "title": "Now"}, {"description": "no arguments"}]


@pytest.mark.parametrize("body", [{}, {"parameters": None}, {"parameters": {}}, *({"parameters": schema} for schema in NAMES_NONE)])
def test_a_tool_without_parameters_takes_none(body):
    now = {"type": "function", "function": {"name": "now", **body}}
    named = grammar_of(tools=[now], tool_choice={"type": "function", "function": {"name": "now"}})
    assert accepts(named, "{}") and not accepts(named, '{"a": 1}')
    required = grammar_of(tools=[now, WEATHER], tool_choice="required")
    assert accepts(required, '[{"name": "now", "parameters": {}}]')
    assert not accepts(required, '[{"name": "now", "parameters": {"a": 1}}]')


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_schema_that_cannot_be_followed_is_refused_in_its_own_words(choice):
    for schema, words in (
        ({"properties": {"city": {"enum": []}}, "required": ["city"]}, "at #/properties/city: no answer can follow it: enum is empty"),
        ({"properties": {"city": {"$dynamicRef": "#"}}}, 'at #/properties/city: the keywords "$dynamicRef" are not supported'),
        ({"properties": {"city": {"$ref": "#/properties/city"}}, "required": ["city"]}, "$ref '#/properties/city' leads only to itself"),
    ):
        tool = {"type": "function", "function": {"name": "weather", "parameters": schema}}
        with pytest.raises(RequestError) as error:
            grammar_of(tools=[tool], tool_choice=choice)
        assert str(error.value).startswith("tools[0].function.parameters cannot be followed at #/") and words in str(error.value)


def test_a_schema_that_cannot_be_followed_does_no_harm_where_its_tool_is_not_called():
    odd = {"type": "function", "function": {"name": "odd", "parameters": {"not": {}}}}
    assert read_tools(Fields({"tools": [odd], "tool_choice": "none"}), MODEL) is None
    assert accepts(grammar_of(tools=[odd, WEATHER], tool_choice=NAMED), '{"city": "Rome"}')


def test_a_parameter_of_a_format_that_is_not_known_is_any_string():
    path = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "string", "format": "file-path"}}}}}
    assert accepts(grammar_of(tools=[path], tool_choice="required"), '[{"name": "f", "parameters": {"a": "/x y"}}]')


def test_calls_beside_each_other_may_be_forbidden():
    grammar = grammar_of(tool_choice="required", parallel_tool_calls=False)
    assert accepts(grammar, '[{"name": "clock", "parameters": {}}]')
    assert not accepts(grammar, CALLS)


def test_tools_that_are_called_have_a_largest_size_together():
    tools = [{"type": "function", "function": {"name": f"tool{place}", "parameters": {"required": ["a" * 100]}}} for place in range(10)]
    small = served(ByteTokenizer(300), "m", max_grammar_characters=1000)
    with pytest.raises(RequestError, match="tools has more than 1000 characters"):
        read_tools(Fields({"tools": tools, "tool_choice": "required"}), small)
    assert read_tools(Fields({"tools": tools, "tool_choice": "none"}), small) is None


@pytest.mark.parametrize("body", [{}, {"tools": []}, {"tools": None, "tool_choice": "auto"}, {"tools": [CLOCK], "tool_choice": "none"}])
def test_where_no_tool_is_to_be_called_there_is_none(body):
    assert read_tools(Fields(body), MODEL) is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": 5}, "tools"),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [CLOCK, {"type": "function", "function": {"name": "a b"}}]}, "tools[1].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]}, "tools[0].function.parameters"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}]}, "tools[0].function.parameters"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"properties": 5}}}], "tool_choice": "required"},
            "tools[0].function.parameters",
        ),
        ({"tools": [CLOCK] * 129, "tool_choice": "required"}, "tools"),
        ({"tools": [CLOCK, WEATHER, CLOCK], "tool_choice": "required"}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a", "strict": "yes"}}]}, "tools[0].function.strict"),
        ({"tools": [CLOCK], "tool_choice": NAMED}, "tool_choice"),
        ({"tools": [CLOCK], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
        ({"tools": [CLOCK], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice.allowed_tools.mode"),
        ({"tools": [CLOCK], "tool_choice": allowed("some", "clock")}, "tool_choice.allowed_tools.mode"),
        ({"tools": [CLOCK], "tool_choice": allowed("auto")}, "tool_choice.allowed_tools.tools"),
        ({"tools": [CLOCK], "tool_choice": allowed("auto", "clock", 5)}, "tool_choice.allowed_tools.tools[1].function"),
        ({"tools": [CLOCK], "tool_choice": allowed("auto", "weather")}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": {"enum": []}}}]}, "tools[0].function.parameters"),
        ({"tool_choice": allowed("auto", "clock")}, "tool_choice"),
        ({"tools": [CLOCK], "tool_choice": 5}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": ["none"]}, "tool_choice"),
    ],
)
def test_a_tool_or_choice_that_cannot_be_is_named(body, param):
    with pytest.raises(RequestError) as error:
        read_tools(Fields(body), MODEL)
    assert (error.value.param, error.value.status) == (param, 400)


def speaker(tokenizer, answer: str):
    """A reply that says an answer and ends."""
    spoken = [*tokenizer.encode(answer, special=False), 1]
    return lambda request, k: spoken[k]


def test_a_named_tool_is_called_and_the_model_sees_all_tools(serve, tokenizer):
    with serve(reply=speaker(tokenizer, '{"city": "Rome"}')) as server:
        answer = server.client.chat.completions.create(model="a", messages=HELLO, tools=[WEATHER, CLOCK], tool_choice=NAMED)
        (choice,) = answer.choices
        (call,) = choice.message.tool_calls
        assert (choice.finish_reason, choice.message.content) == ("stop", None)
        assert (call.type, call.function.name, call.function.arguments) == ("function", "weather", '{"city": "Rome"}')
        assert call.id.startswith("call_") and len(call.id) == 29
        assert server.engine.submitted[0].sampling.grammar == grammar_of(tool_choice=NAMED)
        assert server.engine.prepared == [server.engine.submitted[0].id]


def test_required_calls_are_told_whole_and_as_a_stream(serve, tokenizer):
    fields = {"model": "a", "messages": HELLO, "tools": [WEATHER, CLOCK], "tool_choice": "required", "max_tokens": 90}
    with serve(reply=speaker(tokenizer, '[{"name": "clock", "parameters": {"a": "{"}}, {"name": "clock", "parameters": {}}]')) as server:
        (whole,) = server.client.chat.completions.create(**fields).choices
        with server.client.chat.completions.stream(**fields) as stream:
            (streamed,) = stream.get_final_completion().choices
    expected = [("clock", '{"a": "{"}'), ("clock", "{}")]
    for choice in (whole, streamed):
        assert choice.finish_reason == "tool_calls"
        assert [(call.function.name, call.function.arguments) for call in choice.message.tool_calls] == expected
        assert len({call.id for call in choice.message.tool_calls}) == 2


def test_the_first_event_of_a_call_has_no_content(serve, tokenizer):
    paced = Paced(speaker(tokenizer, '{"city": "Rome"}'))
    with serve(reply=paced) as server:
        fields = {"model": "a", "messages": HELLO, "tools": [WEATHER], "tool_choice": NAMED, "stream": True}
        first, second, *_, last = paced.reading(server.client.chat.completions.create(**fields))
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", None)
    assert second.choices[0].delta.tool_calls[0].function.name == "weather"
    assert last.choices[0].finish_reason == "stop"


def test_text_that_adds_nothing_to_a_call_is_no_event(serve, tokenizer):
    with serve(reply=speaker(tokenizer, '[{"name": "clock", "parameters": {}}]'), turn_s=0.01) as server:
        fields = {"model": "a", "messages": HELLO, "tools": [CLOCK], "tool_choice": "required", "stream": True, "max_tokens": 90}
        first, *events, last = server.client.chat.completions.create(**fields)
    assert first.choices[0].delta.role and last.choices[0].finish_reason == "tool_calls"
    assert events and all(event.choices[0].delta.tool_calls for event in events)


def test_an_answer_cut_before_its_first_call_has_none(serve, tokenizer):
    with serve(reply=speaker(tokenizer, CALLS)) as server:
        fields = {"model": "a", "messages": HELLO, "tools": [WEATHER], "tool_choice": "required", "max_tokens": 2}
        (choice,) = server.client.chat.completions.create(**fields).choices
    assert (choice.finish_reason, choice.message.tool_calls, choice.message.content) == ("length", None, None)


@pytest.mark.parametrize(
    ("stop", "calls", "finish"), [('"name', 0, "stop"), ("z", 1, "stop"), ("}, {", 1, "tool_calls"), ("]", 2, "tool_calls")]
)
def test_an_answer_that_a_stop_string_ends_has_called_tools_where_its_calls_are_whole(serve, tokenizer, stop, calls, finish):
    fields = {"model": "a", "messages": HELLO, "tools": [WEATHER, CLOCK], "tool_choice": "required", "max_tokens": 90, "stop": stop}
    with serve(reply=speaker(tokenizer, '[{"name": "clock", "parameters": {"z": 1}}, {"name": "clock", "parameters": {}}]')) as server:
        (whole,) = server.client.chat.completions.create(**fields).choices
        *_, last = server.client.chat.completions.create(**fields, stream=True)
    assert (whole.finish_reason, last.choices[0].finish_reason) == (finish, finish)
    assert len(whole.message.tool_calls or ()) == calls


def test_a_call_and_its_result_come_back_as_messages(server):
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": json.dumps({"city": "Rome"})}}
    asked = [*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "assistant", "content": "sunny"}]
    server.client.chat.completions.create(model="a", messages=asked, max_tokens=1)
    text = server.service.catalog.find("a").tokenizer
    assert text.decode(server.engine.submitted[0].prompt).endswith("assistant: \nassistant: sunny\nassistant: ")
