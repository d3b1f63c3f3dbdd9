"""Answers on the wire, validated by the types of the `openai` package, which its client itself only fills."""

import json

import pydantic
import pytest
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.server.http.test_app import HELLO, ask
from tests.server.openai.test_tools import CLOCK, NAMED, WEATHER

COMPLETIONS = [
    {},
    {"logprobs": 2},  # with an echo the first entry is null, which the type does not know
    {"n": 2, "prompt": ["a", [5]]},
    {"stop": "e"},
    {"max_tokens": 0, "echo": True, "prompt_logprobs": 1, "return_token_ids": True},
]
CHATS = [
    {},
    {"logprobs": True, "top_logprobs": 2, "n": 2},
    {"tools": [WEATHER, CLOCK], "tool_choice": NAMED},
    {"tools": [WEATHER, CLOCK], "tool_choice": "required"},
    {"return_token_ids": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
]


def posted(server, path: str, body: dict) -> bytes:
    status, _, content = ask(server, "POST", path, {"model": "a", "prompt": "the cat", "messages": HELLO, "max_tokens": 4, **body})
    assert status == 200, content
    return content


def events(content: bytes) -> list[dict]:
    return [json.loads(frame.removeprefix(b"data: ")) for frame in content.split(b"\n\n")[:-2]]


def without_stream(body: dict) -> dict:
    return {name: value for name, value in body.items() if name != "stream_options"}


@pytest.mark.parametrize("body", COMPLETIONS)
def test_a_completion_is_openais(server, body):
    answer = Completion.model_validate(json.loads(posted(server, "/v1/completions", body)), strict=True)
    assert [choice.index for choice in answer.choices] == list(range(len(answer.choices)))


@pytest.mark.parametrize("body", [body for body in COMPLETIONS if "prompt_logprobs" not in body])
def test_an_event_of_a_completion_has_what_openai_requires(server, body):
    for event in events(posted(server, "/v1/completions", {**body, "stream": True})):
        told = {**event, "choices": [{**choice, "finish_reason": choice["finish_reason"] or "stop"} for choice in event["choices"]]}
        Completion.model_validate(told, strict=True)  # the type knows no event without an end


@pytest.mark.parametrize("body", CHATS)
def test_a_chat_is_openais(server, body):
    raw = json.loads(posted(server, "/v1/chat/completions", without_stream(body)))
    ChatCompletion.model_validate(raw, strict=True)
    for choice in raw["choices"]:
        assert {"index", "message", "logprobs", "finish_reason"} <= set(choice)
        assert {"role", "content", "refusal"} <= set(choice["message"])


@pytest.mark.parametrize("body", CHATS)
def test_an_event_of_a_chat_is_openais(server, body):
    told = events(posted(server, "/v1/chat/completions", {**body, "stream": True}))
    for event in told:
        ChatCompletionChunk.model_validate(event, strict=True)
    assert len({(event["id"], event["created"], event["model"], event["system_fingerprint"]) for event in told}) == 1


def test_an_entry_of_the_list_is_openais(server):
    Model.model_validate(json.loads(ask(server, "GET", "/v1/models/a")[2]), strict=True)


def test_a_missing_key_would_be_noticed(server):
    raw = json.loads(posted(server, "/v1/chat/completions", {}))
    del raw["choices"][0]["message"]["role"]
    with pytest.raises(pydantic.ValidationError):
        ChatCompletion.model_validate(raw, strict=True)
