"""`/v1/responses` as the openai package asks it."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import openai
import pytest
from pydantic import BaseModel

from muxjax.errors import RequestError
from muxjax.server.http.routes import responses as routes
from muxjax.server.responses import background
from muxjax.server.responses.reply import ResponseReply
from muxjax.server.responses.store import ResponseStore, Stored
from tests.server.http.test_app import WAIT_S, ask, until
from tests.server.speaking import saying

WEATHER = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}
CALL = '[{"name": "weather", "parameters": {"city": "Rome"}}]'


def prompt_of(server, number: int = -1) -> str:
    return server.service.catalog.find("a").tokenizer.decode(server.engine.submitted[number].prompt, special=True)


def test_a_response_has_text_usage_and_what_was_asked(serve, tokenizer):
    with serve(reply=saying(tokenizer, "the cat"), cached_tokens=2) as server:
        answer = server.client.responses.create(
            model="a", input="hello", instructions="be kind", max_output_tokens=9, temperature=0.5, metadata={"k": "v"}
        )
    assert answer.output_text == "the cat" and answer.status == "completed" and answer.id.startswith("resp_")
    assert (
        answer.instructions == "be kind" and answer.max_output_tokens == 9 and answer.temperature == 0.5 and answer.metadata == {"k": "v"}
    )
    assert answer.output[0].type == "message" and answer.output[0].status == "completed" and answer.tool_choice == "auto"
    assert prompt_of(server) == "<s>system: be kind\nuser: hello\nassistant: "
    usage = answer.usage
    assert usage.input_tokens == len(server.engine.submitted[0].prompt) and usage.input_tokens_details.cached_tokens == 2
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens and usage.output_tokens_details.reasoning_tokens == 0


def test_a_stream_tells_the_same_response_event_by_event(serve, tokenizer):
    with serve(reply=saying(tokenizer, "the cat sat on the mat")) as server:
        events = list(server.client.responses.create(model="a", input="hello", stream=True))
        with server.client.responses.stream(model="a", input="hello") as stream:
            final = stream.until_done().get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:4] == ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    assert kinds[-4:] == ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text == final.output_text == "the cat sat on the mat"
    assert events[0].response.status == "in_progress" and events[0].response.id == events[-1].response.id


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_cut_off_is_incomplete(serve, tokenizer, stream):
    with serve(reply=saying(tokenizer, "the cat", ends=False)) as server:
        answer = server.client.responses.create(model="a", input="hello", max_output_tokens=3, stream=stream)
        if stream:
            *_, last = answer
            assert last.type == "response.incomplete"
            answer = last.response
    assert answer.status == "incomplete" and answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output[0].status == "incomplete" and answer.usage.output_tokens == 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_an_item_of_its_own(serve, tokenizer, stream):
    with serve(reply=saying(tokenizer, CALL), turn_s=0.05) as server:
        answer = server.client.responses.create(model="a", input="hi", tools=[WEATHER], tool_choice="required", stream=stream)
        if stream:
            events = list(answer)
            deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
            assert len(deltas) > 1 and json.loads("".join(deltas)) == {"city": "Rome"}
            answer = events[-1].response
    (call,) = answer.output
    assert (call.type, call.name, json.loads(call.arguments), call.status) == ("function_call", "weather", {"city": "Rome"}, "completed")
    assert call.call_id.startswith("call_") and call.id.startswith("fc_") and answer.tools[0].name == "weather"


def test_a_named_function_is_called(serve, tokenizer):
    with serve(reply=saying(tokenizer, '{"city": "Oslo"}')) as server:
        choice = {"type": "function", "name": "weather"}
        answer = server.client.responses.create(model="a", input="hi", tools=[WEATHER], tool_choice=choice)
    assert json.loads(answer.output[0].arguments) == {"city": "Oslo"}


def test_a_form_is_followed_and_parsed(serve, tokenizer):
    class Cat(BaseModel):
        name: str

    with serve(reply=saying(tokenizer, '{"name": "Tom"}')) as server:
        answer = server.client.responses.parse(model="a", input="hi", text_format=Cat)
        grammar = server.engine.submitted[0].sampling.grammar
    assert answer.output_parsed == Cat(name="Tom") and grammar is not None and '"name"' in grammar.text


def test_a_response_goes_on_from_another(serve, tokenizer):
    with serve(reply=saying(tokenizer, "meow")) as server:
        first = server.client.responses.create(model="a", input="hello", instructions="once")
        second = server.client.responses.create(model="a", input="more", previous_response_id=first.id)
        assert prompt_of(server) == "<s>user: hello\nassistant: meow\nuser: more\nassistant: "  # instructions are of one response only
        server.client.responses.create(model="a", input="end", previous_response_id=second.id)
        assert prompt_of(server).count("meow") == 2
    assert second.previous_response_id == first.id


def test_kept_responses_are_told_again_and_deleted(serve, tokenizer):
    with serve(reply=saying(tokenizer, "meow")) as server:
        answer = server.client.responses.create(model="a", input="hello")
        assert server.client.responses.retrieve(answer.id).output_text == "meow"
        (item,) = server.client.responses.input_items.list(answer.id).data
        assert item.content[0].text == "hello" and item.id
        server.client.responses.delete(answer.id)
        for again in (server.client.responses.retrieve, server.client.responses.delete):
            with pytest.raises(openai.NotFoundError):
                again(answer.id)
        with pytest.raises(openai.NotFoundError, match="is not kept"):
            server.client.responses.create(model="a", input="more", previous_response_id=answer.id)
        unkept = server.client.responses.create(model="a", input="hello", store=False)
        with pytest.raises(openai.NotFoundError):
            server.client.responses.retrieve(unkept.id)


def test_a_response_in_the_background_is_asked_for_until_it_is_there(serve, tokenizer):
    with serve(reply=saying(tokenizer, "meow")) as server:
        answer = server.client.responses.create(model="a", input="hello", background=True)
        assert answer.status == "queued" and answer.background
        assert until(lambda: server.client.responses.retrieve(answer.id).status == "completed")
        done = server.client.responses.retrieve(answer.id)
        assert done.output_text == "meow" and server.client.responses.cancel(answer.id).status == "completed"


def test_a_response_in_the_background_can_be_cancelled(serve, tokenizer):
    with serve(reply=saying(tokenizer, "meow", ends=False), turn_s=0.2) as server:
        answer = server.client.responses.create(model="a", input="hello", background=True)
        assert until(lambda: server.engine.live == 1)
        assert server.client.responses.cancel(answer.id).status == "cancelled"
        assert until(lambda: server.engine.live == 0)
        assert server.client.responses.retrieve(answer.id).status == "cancelled"
        with pytest.raises(openai.BadRequestError, match="cancelled"):
            server.client.responses.create(model="a", input="more", previous_response_id=answer.id)
        plain = server.client.responses.create(model="a", input="hello", max_output_tokens=2)
        with pytest.raises(openai.BadRequestError, match="background"):
            server.client.responses.cancel(plain.id)


def test_a_response_in_the_background_is_made_beside_the_event_loop_and_then_no_more_cancelled(serve, tokenizer, monkeypatch):
    made, threads, may_end = ResponseReply.whole, list[str](), threading.Event()

    def watched(reply, deltas):
        threads.append(threading.current_thread().name)
        assert may_end.wait(WAIT_S)
        return made(reply, deltas)

    monkeypatch.setattr(ResponseReply, "whole", watched)
    with serve(reply=saying(tokenizer, "meow")) as server, ThreadPoolExecutor() as threads_of_clients:
        answer = server.client.responses.create(model="a", input="hello", background=True)
        assert until(lambda: threads)
        cancelled = threads_of_clients.submit(server.client.responses.cancel, answer.id)
        assert not cancelled.done()
        may_end.set()
        assert cancelled.result(WAIT_S).status == "completed"
        server.client.responses.delete(answer.id)
        with pytest.raises(openai.NotFoundError):
            server.client.responses.retrieve(answer.id)
    assert threads[0].startswith("muxjax-large")


def test_no_more_than_so_many_responses_are_made_in_the_background(serve, tokenizer, monkeypatch):
    monkeypatch.setattr(background, "MOST_AT_ONCE", 1)
    with serve(reply=saying(tokenizer, "meow", ends=False), turn_s=0.2) as server:
        first = server.client.responses.create(model="a", input="hello", background=True)
        with pytest.raises(openai.InternalServerError, match="the most at a time") as refusal:
            server.client.responses.create(model="a", input="hello", background=True)
        assert refusal.value.status_code == 503 and refusal.value.response.headers["Retry-After"] == "1"
        server.client.responses.cancel(first.id)
        assert server.client.responses.create(model="a", input="hello", background=True).status == "queued"


@pytest.mark.parametrize(("characters", "thread"), [(10, "muxjax-loop"), (100_000, "muxjax-large")])
def test_what_is_kept_is_written_beside_the_event_loop_where_it_is_long(serve, tokenizer, monkeypatch, characters, thread):
    threads = []

    def watched(write, value):
        threads.append(threading.current_thread().name)
        return write(value)

    with serve(reply=saying(tokenizer, "meow")) as server:
        answer = server.client.responses.create(model="a", input="hello", metadata={"a": "x" * characters})
        for write in ("json_body", "json_response"):
            monkeypatch.setattr(routes, write, partial(watched, getattr(routes, write)))
        assert server.client.responses.retrieve(answer.id).metadata == answer.metadata
        assert server.client.responses.input_items.list(answer.id).data
    assert len(threads) == 2 and all(name.startswith(thread) for name in threads)


def test_an_item_gets_an_id_and_a_type_where_the_client_says_null(serve, tokenizer):
    with serve(reply=saying(tokenizer, "meow")) as server:
        item = {"id": None, "type": None, "role": "user", "content": "hello"}
        _, _, content = ask(server, "POST", "/v1/responses", {"model": "a", "input": [item]})
        (kept,) = server.client.responses.input_items.list(json.loads(content)["id"]).data
    assert kept.id and kept.type == "message"


def test_a_turn_of_calls_and_results_is_a_chats(serve, tokenizer):
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "one moment", "annotations": []}]},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Rome"}'},
        {"type": "function_call", "call_id": "call_2", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "sun"},
    ]
    status, _, content = _post(serve, tokenizer, {"model": "a", "input": items})
    assert status == 400 and b"no tools" in content  # the template of these tests refuses results, having got so far


def _post(serve, tokenizer, body: object):
    with serve(reply=saying(tokenizer, "meow")) as server:
        return ask(server, "POST", "/v1/responses", body)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [1]}, "input[0]"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        (
            {"tools": [{"type": "function", "name": "f", "parameters": {"type": "string"}}], "tool_choice": "required"},
            "tools[0].parameters",
        ),
        ({"tool_choice": {"type": "mcp"}}, "tool_choice.type"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"enum": []}}}}, "text.format.schema"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": "x"}, "max_output_tokens"),
        ({"n": 2}, "n"),
        ({"truncation": "auto"}, "truncation"),
        ({"conversation": "c"}, "conversation"),
        ({"background": True, "stream": True}, "background"),
        ({"background": True, "store": False}, "background"),
        ({"include": "x"}, "include"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"a": [0] * 140_000}}, "metadata"),
        ({"instructions": 3}, "instructions"),
        ({"previous_response_id": 3}, "previous_response_id"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort"),
        ({"text": []}, "text"),
    ],
)
def test_what_is_wrong_is_refused_by_the_clients_name_for_it(server, fields, param):
    status, _, content = ask(server, "POST", "/v1/responses", {"model": "a", "input": "hi", **fields})
    error = json.loads(content)["error"]
    assert (status, error["param"]) == (400, param), error
    assert param.partition("[")[0].partition(".")[0] in error["message"]


def test_an_error_in_a_stream_is_a_failed_response(serve):
    with serve(reply=lambda request, k: 2**40) as server:  # no decoder takes it
        events = list(server.client.responses.create(model="a", input="hello there", stream=True))
    assert [event.type for event in events] == ["response.created", "response.in_progress", "response.failed"]
    failed = events[-1].response
    assert failed.status == "failed" and failed.error.code == "server_error" and "overflow" not in failed.error.message.lower()


def test_log_probabilities_come_where_they_are_asked_for(serve, tokenizer):
    with serve(reply=saying(tokenizer, "the cat")) as server:
        include = ["message.output_text.logprobs"]
        answer = server.client.responses.create(model="a", input="hi", include=include, top_logprobs=2)
        events = list(server.client.responses.create(model="a", input="hi", include=include, stream=True))
    logprobs = answer.output[0].content[0].logprobs
    assert "".join(entry.token for entry in logprobs).startswith("the cat") and len(logprobs[0].top_logprobs) == 2
    assert all(event.logprobs for event in events if event.type == "response.output_text.delta")


def test_tokens_are_counted_without_an_answer(server):
    count = server.client.responses.input_tokens.count(model="a", input="hello")
    assert count.input_tokens == len(server.service.catalog.find("a").tokenizer.encode("<s>user: hello\nassistant: ", special=False))
    assert not server.engine.submitted


def test_kept_responses_take_no_more_than_their_json(serve, tokenizer):
    store = ResponseStore(2**20)
    for number in range(50):
        response = {"id": f"resp_{number}", "status": "completed", "background": False, "metadata": {"k": list(range(10_000))}}
        store.put(Stored.of("t", response, b"[]", b"[]"))
    kept = [number for number in range(50) if _is_kept(store, f"resp_{number}")]
    assert kept == list(range(50 - len(kept), 50)) and 10 < len(kept) < 30  # the latest, of 50 kB each
    assert all(isinstance(part, bytes) for part in store.get("t", "resp_49").encoded)
    with pytest.raises(RequestError, match="is not kept"):
        store.get("other", "resp_49")


def _is_kept(store: ResponseStore, response_id: str) -> bool:
    try:
        return store.get("t", response_id).id == response_id
    except RequestError:
        return False
