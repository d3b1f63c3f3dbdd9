"""Text, reasoning and calls of a model's own words, told by the Responses and the Messages API."""

import json

import anthropic
import pytest

from tests.server.openai.test_auto_tools import CITY, ROME, TWO, catalog, say

__all__ = ["catalog", "say"]
FLAT = [{"type": "function", "name": "weather", "parameters": CITY}, {"type": "function", "name": "clock", "parameters": None}]
ANTHROPIC = [{"name": "weather", "input_schema": CITY}, {"name": "clock", "input_schema": {"type": "object"}}]
THOUGHT = "<think>\nhm\n</think>\n\n"
USER = [{"role": "user", "content": "weather?"}]


def response(server, stream: bool, **fields):
    body = {"input": "weather?", "max_output_tokens": 500, **fields}
    if not stream:
        return server.client.responses.create(**body)
    with server.client.responses.stream(**body) as events:
        return events.until_done().get_final_response()


def message(server, stream: bool, **fields):
    body = {"messages": USER, "max_tokens": 500, **fields}
    with anthropic.Anthropic(base_url=server.url.removesuffix("/v1"), api_key="none", max_retries=0) as client:
        if not stream:
            return client.messages.create(**body)
        with client.messages.stream(**body) as events:
            return events.get_final_message()


@pytest.mark.parametrize("stream", [False, True])
def test_text_and_calls_are_items(say, stream):
    with say(TWO) as server, server.client:
        answer = response(server, stream, model="hermes", tools=FLAT)
    text, *calls = answer.output
    assert (text.type, text.content[0].text, text.status) == ("message", "I look.", "completed")
    assert [(call.name, call.arguments, call.status) for call in calls] == [("weather", ROME, "completed"), ("clock", "{}", "completed")]
    assert len({item.id for item in answer.output}) == 3 and answer.status == "completed"


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_is_an_item_of_its_own(say, stream):
    with say(THOUGHT + "sun") as server, server.client:
        answer = response(server, stream, model="thinks")
    reasoning, text = answer.output
    assert (reasoning.type, reasoning.content[0].text) == ("reasoning", "hm") and answer.output_text == text.content[0].text == "sun"
    assert 0 < answer.usage.output_tokens_details.reasoning_tokens < answer.usage.output_tokens


def test_log_probabilities_are_with_the_text_they_are_of_whole_or_streamed(say):
    with say(THOUGHT + "the sun") as server, server.client:
        whole, streamed = (response(server, stream, model="thinks", include=["message.output_text.logprobs"]) for stream in (False, True))
    told = [[entry.token for entry in answer.output[-1].content[0].logprobs] for answer in (whole, streamed)]
    assert told[0] == told[1] and "".join(told[0]).strip().startswith("the sun")
    assert len(told[0]) < whole.usage.output_tokens - whole.usage.output_tokens_details.reasoning_tokens + 2


def test_a_loop_of_an_agent_comes_to_its_end(say):
    with say(TWO) as server, server.client:
        first = response(server, False, model="hermes", tools=FLAT)
        results = [
            {"type": "function_call_output", "call_id": item.call_id, "output": "sun"}
            for item in first.output
            if item.type == "function_call"
        ]
        second = response(server, False, model="hermes", tools=FLAT, input=results, previous_response_id=first.id)
        kept = server.service.catalog.find("hermes").tokenizer.decode(server.engine.submitted[-1].prompt, special=True)
        whole = [{"role": "user", "content": "weather?"}, *(item.model_dump() for item in first.output), *results]
        response(server, False, model="hermes", tools=FLAT, input=whole)
        sent = server.service.catalog.find("hermes").tokenizer.decode(server.engine.submitted[-1].prompt, special=True)
    assert second.status == "completed" and kept == sent and sent.endswith("<tool>sun<tool>sun") and "I look." in sent


@pytest.mark.parametrize("stream", [False, True])
def test_text_and_calls_are_blocks(say, stream):
    with say(TWO) as server:
        answer = message(server, stream, model="hermes", tools=ANTHROPIC)
    text, *calls = answer.content
    assert (text.type, text.text, answer.stop_reason) == ("text", "I look.", "tool_use")
    assert [(call.name, call.input) for call in calls] == [("weather", json.loads(ROME)), ("clock", {})]


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_is_a_block_of_its_own(say, stream):
    with say(THOUGHT + "sun") as server:
        answer = message(server, stream, model="thinks")
    thinking, text = answer.content
    assert (thinking.type, thinking.thinking, text.text, answer.stop_reason) == ("thinking", "hm", "sun", "end_turn")


def test_tools_of_a_template_that_refuses_them_are_an_error_by_its_name(say):
    with say("x") as server, pytest.raises(anthropic.BadRequestError, match=r"chat\.jinja"):
        message(server, False, model="refuses", tools=ANTHROPIC)
