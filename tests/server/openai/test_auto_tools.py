"""Chats whose model may call tools, in its own words, and may reason before it answers."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import openai
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muxjax.engine.options import ModelOptions
from muxjax.errors import ConfigError, RequestError
from muxjax.server.answers.dialect import dialect_of
from muxjax.server.background import in_background
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.openai.schema import parse_chat
from muxjax.server.service import Service
from muxjax.server.text.template import ChatTemplate
from muxjax.server.text.tokenizer import HfTokenizer
from tests.fakes import FakeEngine
from tests.server.answers.words import TOKENS
from tests.server.kit import STAMP, Server, served

LENGTH = 2**17
USER = [{"role": "user", "content": "weather?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
TOOLS = [WEATHER, CLOCK]
LOOP = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}{% endfor %}"
)
SHOWS = "{% if tools %}<tool_call>{{ tools | tojson }}{% endif %}" + LOOP
TEMPLATES = {
    "hermes": SHOWS,
    "mistral": SHOWS.replace("<tool_call>", "[TOOL_CALLS]"),
    "thinks": SHOWS + "{% if add_generation_prompt %}<think></think>{% endif %}",
    "opens": SHOWS + "</think>{% if add_generation_prompt %}<think>\n{% endif %}",
    "unknown": SHOWS.replace("<tool_call>", "Tools: "),
    "ignores": LOOP,
    "refuses": "{% if tools %}{{ raise_exception('no tools here') }}{% endif %}" + LOOP,
}
Say = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    path = tmp_path_factory.mktemp("marks") / "tokenizer.json"
    TOKENS.ours.save(str(path))
    tokenizer = HfTokenizer(path)
    models = [
        served(
            tokenizer,
            name,
            template=ChatTemplate(source, {}, name="chat.jinja"),
            dialect=dialect_of(source, tokenizer.marks, ends=[1], reasoning_parser="qwen3" if name == "thinks" else None),
            max_model_len=LENGTH,
        )
        for name, source in TEMPLATES.items()
    ]
    return Catalog(models)


@pytest.fixture
def say(catalog: Catalog) -> Say:
    """Starts an endpoint whose models say that answer and end."""

    @contextmanager
    def started(answer: str, **engine_options) -> Iterator[Server]:
        spoken = [*TOKENS.ours.encode(answer).ids, 1]
        engine = FakeEngine(list(TEMPLATES), reply=lambda request, k: spoken[k], **engine_options)
        service = Service(engine, catalog)
        with in_background(service, HttpOptions(port=0)) as url:
            yield Server(engine, service, url)

    return started


def asked(server: Server, model: str = "hermes", **fields):
    """The answer, told whole and as a stream, which say the same."""
    body = {"model": model, "messages": USER, "max_tokens": 500, **({"tools": TOOLS} | fields)}
    (whole,) = server.client.chat.completions.create(**body).choices
    message = whole.message
    text, reasoning, calls, finish = "", "", {}, None
    for event in server.client.chat.completions.create(**body, stream=True):
        (choice,) = event.choices
        finish = choice.finish_reason or finish
        text += choice.delta.content or ""
        reasoning += getattr(choice.delta, "reasoning_content", None) or ""
        for call in choice.delta.tool_calls or ():
            assert call.function is not None
            calls.setdefault(call.index, [call.function.name, "", call.id])
            calls[call.index][1] += call.function.arguments or ""
    assert (text, finish) == (message.content or "", whole.finish_reason)
    assert reasoning == (getattr(message, "reasoning_content", None) or "")
    told = [(call.function.name, call.function.arguments) for call in message.tool_calls or ()]
    assert [(name, arguments) for name, arguments, _ in calls.values()] == told
    ids = [call.id for call in message.tool_calls or ()] + [id for *_, id in calls.values()]
    assert len(set(ids)) == len(ids) and all(id.startswith("call_") for id in ids)
    return whole


def calling(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


ROME = '{"city": "Rome"}'
TWO = "I look. " + calling("weather", ROME) + "\n" + calling("clock", "{}")


@pytest.mark.parametrize("choice", [{}, {"tool_choice": "auto"}, {"tool_choice": None}])
def test_tools_are_called_where_the_model_likes(say, choice):
    with say(TWO) as server:
        whole = asked(server, **choice)
    assert (whole.finish_reason, whole.message.content) == ("tool_calls", "I look.")
    assert [(call.function.name, call.function.arguments) for call in whole.message.tool_calls] == [("weather", ROME), ("clock", "{}")]


def test_an_answer_without_a_call_is_text(say):
    with say("It is < 5 degrees.\n") as server:
        whole = asked(server)
    assert (whole.finish_reason, whole.message.content, whole.message.tool_calls) == ("stop", "It is < 5 degrees.\n", None)


def test_marks_that_are_hidden_tokens_are_read_and_not_told(say):
    with say(f'Yes.[TOOL_CALLS][{{"name": "weather", "arguments": {ROME}}}]') as server:
        whole = asked(server, "mistral")
        assert [call.function.name for call in whole.message.tool_calls] == ["weather"] and whole.message.content == "Yes."
        plain = asked(server, "mistral", tools=[])
        assert plain.message.content.startswith("Yes.[{") and plain.finish_reason == "stop"


def test_none_hears_of_no_tools_and_required_calls_in_the_models_own_words(say):
    with say(calling("weather", ROME)) as server:
        none, required = asked(server, tool_choice="none"), asked(server, tool_choice="required")
        named = asked(server, tool_choice={"type": "function", "function": {"name": "weather"}})
        text = [TOKENS.ours.decode(request.prompt, skip_special_tokens=False) for request in server.engine.submitted]
    assert none.message.content == calling("weather", ROME) and "parameters" not in text[0] and "parameters" in text[2]
    for choice, finish in ((required, "tool_calls"), (named, "stop")):
        assert (choice.finish_reason, choice.message.content) == (finish, None)
        assert [call.function.name for call in choice.message.tool_calls] == ["weather"]


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_some_tools_may_be_allowed_while_the_model_hears_of_all(say, mode):
    choice = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": mode, "tools": [{"type": "function", "function": {"name": "weather"}}]},
    }
    with say(calling("weather", ROME) + calling("clock", "{}")) as server:
        whole = asked(server, tool_choice=choice)
        prompt = TOKENS.ours.decode(server.engine.submitted[0].prompt)
        grammar = server.engine.submitted[0].sampling.grammar.text
    assert [call.function.name for call in whole.message.tool_calls] == ["weather"]
    assert "clock" in prompt and "clock" not in grammar


def test_a_call_that_is_cut_off_is_told_as_far_as_it_is(say):
    with say(TWO) as server:
        whole = asked(server, max_tokens=len(TOKENS.ours.encode(TWO[: TWO.index("Rome") + 2]).ids))
    assert whole.finish_reason == "length"
    assert [(call.function.name, call.function.arguments) for call in whole.message.tool_calls] == [("weather", '{"city": "Ro')]


def test_a_stop_string_that_closes_calls_leaves_them_whole(say):
    with say(TWO) as server:
        whole = asked(server, stop="</tool_call>")
    assert (whole.finish_reason, whole.message.content) == ("tool_calls", "I look.")


def test_reasoning_is_told_apart(say):
    with say("<think>\nHm.\n</think>\n\nI look. " + calling("clock", "{}")) as server:
        for tools in (TOOLS, []):
            whole = asked(server, "thinks", tools=tools)
            assert whole.message.reasoning_content == "Hm."
            assert whole.message.content == ("I look." if tools else "I look. " + calling("clock", "{}"))
        body = {"model": "thinks", "messages": USER}
        usage = server.client.chat.completions.create(**body, max_tokens=500).usage
        assert usage.completion_tokens_details.reasoning_tokens == len(TOKENS.ours.encode("<think>\nHm.\n</think>").ids)


def test_reasoning_that_the_prompt_opens_needs_no_mark(say):
    with say('\nHm.\n</think>\n\n{"a": 1}') as server:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"properties": {"a": {"type": "integer"}}}}}
        whole = asked(server, "opens", tools=[], response_format=form)
        assert (whole.message.reasoning_content, whole.message.content) == ("Hm.", '{"a": 1}')
        resumed = [*USER, {"role": "assistant", "content": "I say"}]
        fields = {"messages": resumed, "tools": [], "extra_body": {"continue_final_message": True, "add_generation_prompt": False}}
        assert asked(server, "opens", **fields).message.content.startswith("\nHm.")


def test_a_plain_chat_of_a_model_that_does_not_reason_has_no_reader(say, catalog):
    with say("Hello.") as server:
        asked(server, tools=[])
        assert server.engine.submitted[0].sampling.grammar is None


def test_a_model_of_unknown_writing_answers_as_text(say):
    with say(TWO) as server:
        whole = asked(server, "unknown")
        assert (whole.message.content, whole.message.tool_calls, whole.finish_reason) == (TWO, None, "stop")
        assert server.engine.submitted[0].sampling.grammar is None


@pytest.mark.parametrize("model", ["ignores", "refuses"])
def test_a_template_without_a_place_for_tools_is_named(say, model):
    with say("x") as server, pytest.raises(openai.BadRequestError) as error:
        asked(server, model)
    assert error.value.param == "tools" and "chat.jinja" in str(error.value) and f"`{model}`" in str(error.value)


def test_calls_and_an_answers_form_may_be_asked_for_together(say):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"properties": {"a": {"type": "integer"}}}}}
    with say('{"a": 1}') as server:
        assert asked(server, response_format=form).message.content == '{"a": 1}'
        with pytest.raises(openai.BadRequestError, match="cannot be given together"):
            asked(server, extra_body={"structured_outputs": {"regex": "a"}}, tool_choice="required")


def test_where_a_tool_must_be_called_the_form_of_text_is_of_nothing(say):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"properties": {"a": {"type": "integer"}}}}}
    with say(calling("weather", ROME)) as server:
        whole = asked(server, response_format=form, tool_choice="required")
        assert "city" in server.engine.submitted[0].sampling.grammar.text
    assert whole.message.content is None and whole.message.tool_calls[0].function.name == "weather"


def test_calls_reasoning_and_results_come_back_as_messages(say):
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ROME}}
    back = [
        *USER,
        {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    with say("Sunny.") as server:
        assert asked(server, messages=back).message.content == "Sunny."
        prompt = TOKENS.ours.decode(server.engine.submitted[0].prompt, skip_special_tokens=False)
    assert '"Rome"' in prompt and prompt.endswith("<tool>sunny")


def test_many_tools_are_taken_and_too_many_or_too_large_ones_are_not(say):
    def tools(count: int, filler: str = "") -> list[dict]:
        schema = {"type": "object", "properties": {f"a{place}": {"type": "string", "description": filler} for place in range(5)}}
        return [{"type": "function", "function": {"name": f"tool_{place}", "parameters": schema}} for place in range(count)]

    with say(calling("tool_127", '{"a0": "x"}')) as server:
        assert [call.function.name for call in asked(server, tools=tools(128)).message.tool_calls] == ["tool_127"]
        for offered in (tools(129), tools(1, "x" * 2**18)):
            with pytest.raises(openai.BadRequestError) as error:
                asked(server, tools=offered)
            assert error.value.param == "tools"


def test_a_client_that_leaves_within_a_call_ends_its_request(say):
    with say(TWO + " x" * 2000, turn_s=0.002) as server:
        body = {"model": "hermes", "messages": USER, "tools": TOOLS, "max_tokens": 4000, "stream": True}
        stream = server.client.chat.completions.create(**body)
        next(event for event in stream if event.choices[0].delta.tool_calls)
        stream.close()
        while not server.engine.cancelled:
            time.sleep(0.005)
        assert server.engine.cancelled == [server.engine.submitted[0].id]


FUNCTIONS = {"functions": [tool["function"] for tool in TOOLS], "model": "hermes", "messages": USER, "max_tokens": 500}


def test_functions_are_called_as_before_there_were_tools(say):
    with say(calling("weather", ROME)) as server:
        whole = server.client.chat.completions.create(**FUNCTIONS).choices[0]
        events = [event.choices[0] for event in server.client.chat.completions.create(**FUNCTIONS, stream=True)]
        named = server.client.chat.completions.create(**FUNCTIONS, function_call={"name": "weather"}).choices[0]
    assert (whole.finish_reason, whole.message.content, whole.message.tool_calls) == ("function_call", None, None)
    assert (whole.message.function_call.name, whole.message.function_call.arguments) == ("weather", ROME)
    told = [event.delta.function_call for event in events if event.delta.function_call]
    assert (told[0].name, "".join(piece.arguments for piece in told), events[-1].finish_reason) == ("weather", ROME, "function_call")
    assert named.message.function_call.name == "weather"


def test_functions_and_their_results_come_back_as_messages(say):
    call = {"name": "weather", "arguments": ROME}
    back = [
        *USER,
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "weather", "content": "sunny"},
    ]
    with say("Sunny.") as server:
        answer = server.client.chat.completions.create(**{**FUNCTIONS, "messages": back})
        assert answer.choices[0].message.content == "Sunny."
        assert TOKENS.ours.decode(server.engine.submitted[0].prompt).endswith("<tool>sunny")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"functions": 5}, "functions"),
        ({"functions": [5]}, "functions[0]"),
        ({"functions": FUNCTIONS["functions"], "tools": TOOLS}, "functions"),
        ({"functions": FUNCTIONS["functions"], "function_call": 5}, "function_call"),
        ({"functions": FUNCTIONS["functions"], "function_call": {"name": "other"}}, "function_call"),
        ({"functions": [{"name": 5}]}, "functions[0].name"),
        ({"functions": [{"name": "f", "parameters": {"enum": []}}]}, "functions[0].parameters"),
        ({"messages": [*USER, {"role": "assistant", "function_call": "x"}]}, "messages[1].tool_calls[0].function"),
        ({"messages": [*USER, {"role": "assistant", "function_call": {"name": 5}}]}, "messages[1].tool_calls[0].function.name"),
    ],
)
def test_functions_that_are_none_are_named(say, body, param):
    with say("x") as server:
        answer = requests.post(f"{server.url}/chat/completions", json={"model": "hermes", "messages": USER, **body}, timeout=30)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


_KEYS = ("type", "function", "name", "parameters", "properties", "allowed_tools", "mode", "tools", "role", "content", "tool_calls", "id")
_FIELDS = ("tools", "tool_choice", "functions", "function_call", "parallel_tool_calls")
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(("function", "auto", "weather", "tool", "assistant", "{}")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.dictionaries(st.sampled_from(_FIELDS), _json, min_size=1))
def test_no_tools_are_a_fault_of_ours(parse, body):
    parse({"model": "hermes", "messages": USER, **body})


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(_json, min_size=1, max_size=3))
def test_no_messages_are_a_fault_of_ours(parse, messages):
    parse({"model": "hermes", "messages": [*USER, *messages], "tools": TOOLS})


@pytest.fixture(scope="module")
def parse(catalog: Catalog) -> Callable[[dict], None]:
    """Reads a body, which is right or refused with a field's name."""

    def read(body: dict) -> None:
        try:
            parse_chat(json.loads(json.dumps(body)), catalog, STAMP)
        except RequestError as error:
            assert error.status == 400 and error.param

    return read


def test_the_parsers_are_options_of_a_model(tmp_path: Path):
    assert ModelOptions(name="m", path=tmp_path, tool_call_parser="hermes", reasoning_parser="none").tool_call_parser == "hermes"
    with pytest.raises(ConfigError, match="tool_call_parser must be one of hermes"):
        ModelOptions(name="m", path=tmp_path, tool_call_parser="qwen")
