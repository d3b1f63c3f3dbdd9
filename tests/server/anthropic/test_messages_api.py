"""`/v1/messages` as the anthropic package asks it."""

import json

import anthropic
import pytest
from pydantic import BaseModel

from muxjax.server.anthropic.request import chat_body
from tests.server.http.test_app import ask
from tests.server.speaking import saying

WEATHER = {
    "name": "weather",
    "description": "of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
HELLO = [{"role": "user", "content": "hello"}]


def client_of(server, **options) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url.removesuffix("/v1"), api_key="none", max_retries=0, **options)


def prompt_of(server) -> str:
    return server.service.catalog.find("a").tokenizer.decode(server.engine.submitted[-1].prompt, special=True)


def test_a_message_has_text_usage_and_a_reason(serve, tokenizer):
    with serve(reply=saying(tokenizer, "the cat"), cached_tokens=2) as server, client_of(server) as client:
        answer = client.messages.create(model="a", max_tokens=20, system="be kind", messages=HELLO)
        assert prompt_of(server) == "<s>system: be kind\nuser: hello\nassistant: "
        prompt = len(server.engine.submitted[-1].prompt)
    assert answer.content[0].text == "the cat" and answer.stop_reason == "end_turn" and answer.id.startswith("msg_")
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens) == (prompt - 2, 2) and answer.usage.output_tokens > 1


def test_a_stream_tells_the_same(serve, tokenizer):
    with serve(reply=saying(tokenizer, "the cat sat on the mat")) as server, client_of(server) as client:
        with client.messages.stream(model="a", max_tokens=30, messages=HELLO) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        events = list(client.messages.create(model="a", max_tokens=30, messages=HELLO, stream=True))
    assert text == final.content[0].text == "the cat sat on the mat" and final.stop_reason == "end_turn"
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"] and set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert events[-2].usage.output_tokens == final.usage.output_tokens > 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "reason", "sequence"),
    [({"max_tokens": 2}, "max_tokens", None), ({"stop_sequences": ["sat"]}, "stop_sequence", "sat"), ({}, "end_turn", None)],
)
def test_why_it_ended_is_told(serve, tokenizer, fields, reason, sequence, stream):
    asked = {"model": "a", "max_tokens": 30, "messages": HELLO, **fields}
    with serve(reply=saying(tokenizer, "the cat sat")) as server, client_of(server) as client:
        if stream:
            with client.messages.stream(**asked) as events:
                answer = events.get_final_message()
        else:
            answer = client.messages.create(**asked)
    assert (answer.stop_reason, answer.stop_sequence) == (reason, sequence)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("choice", "said"),
    [({"type": "any"}, '[{"name": "weather", "parameters": {"city": "Rome"}}]'), ({"type": "tool", "name": "weather"}, '{"city": "Rome"}')],
)
def test_tools_are_used(serve, tokenizer, stream, choice, said):
    asked = {"model": "a", "max_tokens": 90, "messages": HELLO, "tools": [WEATHER], "tool_choice": choice}
    with serve(reply=saying(tokenizer, said)) as server, client_of(server) as client:
        if stream:
            with client.messages.stream(**asked) as events:
                answer = events.get_final_message()
        else:
            answer = client.messages.create(**asked)
    (block,) = answer.content
    assert (block.type, block.name, block.input) == ("tool_use", "weather", {"city": "Rome"})
    assert block.id.startswith("toolu_") and answer.stop_reason == "tool_use"


def test_a_runner_of_tools_hears_that_no_conversation_is_held_and_asks_without(serve, tokenizer):
    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Of a city."""
        raise AssertionError(city)

    said = '[{"name": "weather", "parameters": {"city": "Rome"}}]'
    asked = {"model": "a", "max_tokens": 90, "messages": HELLO, "tools": [weather], "tool_choice": {"type": "any"}}
    with serve(reply=saying(tokenizer, said)) as server, client_of(server) as client:
        with pytest.raises(anthropic.BadRequestError) as refused:
            client.beta.messages.create(model="a", max_tokens=9, messages=HELLO, thread={"type": "create"})
        assert refused.value.body["error"]["details"] == {"error_code": "thread_unsupported_request"}
        assert not server.engine.submitted
        answer = next(iter(client.beta.messages.tool_runner(**asked)))
        assert answer.content[0].input == {"city": "Rome"} and len(server.engine.submitted) == 1


def test_a_form_is_followed(serve, tokenizer):
    class Cat(BaseModel):
        name: str

    with serve(reply=saying(tokenizer, '{"name": "Tom"}')) as server, client_of(server) as client:
        answer = client.messages.parse(model="a", max_tokens=30, messages=HELLO, output_format=Cat)
        assert server.engine.submitted[-1].sampling.grammar is not None
    assert answer.parsed_output == Cat(name="Tom")


def test_an_answer_that_is_begun_is_gone_on_with(serve, tokenizer):
    with serve(reply=saying(tokenizer, "cat")) as server, client_of(server) as client:
        client.messages.create(model="a", max_tokens=9, messages=[*HELLO, {"role": "assistant", "content": "the "}])
        assert prompt_of(server) == "<s>user: hello\nassistant: the "


def test_tokens_are_counted_without_an_answer(server):
    with client_of(server) as client:
        count = client.messages.count_tokens(model="a", messages=HELLO)
    assert count.input_tokens == len(server.service.catalog.find("a").tokenizer.encode("<s>user: hello\nassistant: ", special=False))
    assert not server.engine.submitted


def test_results_of_tools_are_messages_of_their_own():
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "one moment"},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}},
    ]
    results = [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "sun"}]},
        {"type": "text", "text": "and?"},
    ]
    chat = chat_body(
        {"max_tokens": 1, "messages": [*HELLO, {"role": "assistant", "content": blocks}, {"role": "user", "content": results}]}
    )
    call = {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    assert chat["messages"][1:] == [
        {"role": "assistant", "content": "one moment", "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "toolu_1", "content": "sun"},
        {"role": "user", "content": "and?"},
    ]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": 3}]}]}, "messages[0].content[0].input"),
        ({"system": 3}, "system"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [WEATHER], "tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "other"}}, "tool_choice"),
        ({"tools": [{**WEATHER, "input_schema": {"type": "string"}}], "tool_choice": {"type": "any"}}, "tools[0]"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"thinking": {"type": "maybe"}}, "thinking.type"),
        ({"output_config": {"format": {"type": "yaml"}}}, "output_config.format.type"),
        ({"temperature": "warm"}, "temperature"),
        ({"thread": {"type": "continue", "previous_message_id": "msg_1"}}, "thread"),
    ],
)
def test_what_is_wrong_is_an_error_of_anthropics(server, fields, name):
    status, _, content = ask(server, "POST", "/v1/messages", {"model": "a", "max_tokens": 5, "messages": HELLO, **fields})
    told = json.loads(content)
    assert status == 400 and told["type"] == "error" and told["error"]["type"] == "invalid_request_error"
    assert told["error"]["message"].startswith(name), told


def test_errors_have_anthropics_kinds(serve, tokenizer):
    with serve() as server, client_of(server) as client, pytest.raises(anthropic.NotFoundError, match="does not exist"):
        client.messages.create(model="none", max_tokens=5, messages=HELLO)
    with serve(reply=lambda request, k: 2**40) as server, client_of(server) as client:
        with pytest.raises(anthropic.InternalServerError):
            client.messages.create(model="a", max_tokens=5, messages=HELLO)
        with (
            pytest.raises(anthropic.APIStatusError, match="had an error"),
            client.messages.stream(model="a", max_tokens=5, messages=HELLO) as stream,
        ):
            stream.get_final_message()
