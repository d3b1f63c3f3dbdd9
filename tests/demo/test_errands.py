"""A model calls a tool, hears what came of it and says it: over HTTP, on the real engine, through the client that everybody has."""

import dataclasses
import json
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Any

import openai
import pytest

from muxjax.demo.errands import answer_of, asked_for, errands, function
from muxjax.demo.items import Item, is_right, items, items_with_tools
from muxjax.demo.run import demo_options, shipped
from muxjax.demo.tales import Split
from muxjax.demo.worlds import SEA
from muxjax.server.background import in_background
from muxjax.server.build import build_service
from muxjax.server.config import HttpOptions
from tests.programs import only_essential_programs
from tests.xla_cache import XLA_CACHE

ASKED = 24
ENOUGH_FRAC = 0.9
FIND = function("find", "thing")
PLACES = {"pearl": "reef", "oar": "bay"}


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    sea = [folder for folder in shipped() if folder.name == "sea"]
    options = dataclasses.replace(demo_options(sea), compilation_cache_dir=str(XLA_CACHE))
    with only_essential_programs():
        service = build_service(options, report=lambda line: None, progress=False)
    with in_background(service, HttpOptions(port=0)) as url:
        yield openai.OpenAI(base_url=url, api_key="none", max_retries=0)


def say(client: openai.OpenAI, messages, **fields: Any):
    (choice,) = client.chat.completions.create(model="sea", messages=messages, **{"tools": [FIND], **fields}).choices
    return choice


def calls_of(choice) -> list[tuple[str, dict]]:
    return [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls or ()]


def run(client: openai.OpenAI, question: str, **fields: Any) -> tuple[list[tuple[str, dict]], str]:
    """The calls of a question, and what is said when they have been run."""
    messages: list[Any] = [{"role": "user", "content": question}]
    choice = say(client, messages, **fields)
    assert choice.finish_reason == "tool_calls"
    messages.append(choice.message)
    for call in choice.message.tool_calls or ():
        (thing,) = json.loads(call.function.arguments).values()
        messages.append({"role": "tool", "tool_call_id": call.id, "content": PLACES[thing]})
    return calls_of(choice), say(client, messages).message.content


@pytest.mark.parametrize("things", [["pearl"], ["oar"], ["pearl", "oar"]])
def test_a_question_is_answered_by_way_of_a_tool(client, things):
    calls, answer = run(client, asked_for(things))
    assert calls == [("find", {"thing": thing}) for thing in things]
    assert is_right(Item(kind="result", messages=(), answer=answer_of({thing: PLACES[thing] for thing in things})), answer)


def test_errands_that_training_never_showed_are_run(client):
    asked = list(islice(items_with_tools(SEA, seed=5), ASKED))
    right = 0
    for item in asked:
        choice = say(client, list(item.messages), tools=list(item.tools))
        calls = " ".join(json.dumps({"name": name, "arguments": arguments}) for name, arguments in calls_of(choice))
        right += is_right(item, calls if item.kind == "call" else choice.message.content or "")
    assert right >= ENOUGH_FRAC * len(asked)


def test_a_stream_has_the_same_calls_and_no_empty_piece(client):
    question = [{"role": "user", "content": asked_for(["pearl", "oar"])}]
    with client.chat.completions.stream(model="sea", messages=question, tools=[FIND]) as stream:
        events = [event.chunk.choices[0].delta for event in stream if event.type == "chunk" and event.chunk.choices]
        streamed = stream.get_final_completion().choices[0]
    assert calls_of(streamed) == calls_of(say(client, question)) != []
    assert all(delta.role or delta.content or delta.tool_calls for delta in events[:-1])
    assert not any("tool_call" in (delta.content or "") for delta in events)


def test_what_needs_no_tool_is_said(client):
    for item in islice(items(SEA, seed=4), 6):
        choice = say(client, list(item.messages))
        assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)
        assert is_right(item, choice.message.content)


def test_a_system_is_heard_and_does_no_harm(client):
    choice = say(client, [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": asked_for(["oar"])}])
    assert calls_of(choice) == [("find", {"thing": "oar"})]


def test_without_tools_or_with_none_nothing_is_called(client):
    question = [{"role": "user", "content": asked_for(["oar"])}]
    for fields in ({"tools": openai.NOT_GIVEN}, {"tool_choice": "none"}):
        choice = say(client, question, **fields)
        assert (choice.message.content, choice.message.tool_calls, choice.finish_reason) == ("I do not know.", None, "stop")


def test_one_call_at_a_time_may_be_wanted(client):
    choice = say(client, [{"role": "user", "content": asked_for(["pearl", "oar"])}], parallel_tool_calls=False)
    assert calls_of(choice) == [("find", {"thing": "pearl"})]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "place_on_map"}}])
def test_any_tool_can_be_called_where_one_must_be(client, choice):
    """Neither the name nor the schema was ever taught: the grammar knows them."""
    schema = {
        "type": "object",
        "properties": {"which": {"enum": ["boat", "net"]}, "sure": {"type": "boolean"}},
        "required": ["which", "sure"],
    }
    tool = {"type": "function", "function": {"name": "place_on_map", "parameters": schema}}
    ((name, arguments),) = calls_of(
        say(client, [{"role": "user", "content": "Who are you?"}], tools=[tool], tool_choice=choice, parallel_tool_calls=False)
    )
    assert name == "place_on_map" and arguments["which"] in ("boat", "net") and isinstance(arguments["sure"], bool)


def test_errands_are_parted_as_tales_are():
    def contents(seed: int, split: Split, count: int) -> set[str]:
        return {errand.messages[-1]["content"] for errand in islice(errands(SEA, Random(seed), split), count)}

    trained, asked = contents(1, Split.TRAIN, 5000), contents(2, Split.HELD_OUT, 500)
    assert not trained & asked and trained & contents(3, Split.TRAIN, 500)


def test_an_errand_offers_the_tool_that_it_calls():
    for errand in islice(errands(SEA, Random(1), Split.TRAIN), 200):
        called = {call["function"]["name"] for message in errand.messages for call in message.get("tool_calls", ())}
        assert len(called) == 1 and called <= {tool["function"]["name"] for tool in errand.tools}
