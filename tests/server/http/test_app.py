import asyncio
import http.client
import json
import time
from urllib.parse import urlsplit

import openai
import pydantic
import pytest

from muxjax.errors import RequestError
from muxjax.server.http import sse
from muxjax.server.http.bounds import write
from muxjax.server.openai.errors import error_object
from tests.server.kit import EOS, Server
from tests.server.speaking import Paced

HELLO = [{"role": "user", "content": "hello"}]
WAIT_S = 60


def ask(server: Server, method: str, path: str, body: object = None, headers: dict[str, str] | None = None):
    """Status, headers and body of a plain request."""
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=WAIT_S)
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection.request(method, path, raw, headers or {})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.headers, content


def error_of(server: Server, path: str, body: object) -> tuple[int, dict]:
    status, _, content = ask(server, "POST", path, body)
    return status, json.loads(content)["error"]


def until(holds) -> bool:
    end = time.monotonic() + WAIT_S
    while not holds() and time.monotonic() < end:
        time.sleep(0.005)
    return holds()


def test_a_completion_has_text_usage_and_reason(server):
    answer = server.client.completions.create(model="org/a", prompt="the cat", max_tokens=3)
    tokens = server.service.catalog.find("a").tokenizer.encode("the cat", special=True)
    assert answer.choices[0].finish_reason == "length"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(tokens), 3)
    assert answer.usage.total_tokens == len(tokens) + 3
    assert answer.choices[0].text == server.service.catalog.find("a").tokenizer.decode((tokens * 3)[:3])
    assert answer.id.startswith("cmpl-")


def test_an_alias_answers_under_its_own_name(server):
    assert server.client.completions.create(model="a", prompt="the cat").model == "a"
    assert server.engine.submitted[0].model == "org/a"


def test_a_chat_goes_through_the_template_without_a_second_bos(server):
    answer = server.client.chat.completions.create(model="a", messages=HELLO, max_completion_tokens=4)
    text = server.service.catalog.find("a").tokenizer
    assert server.engine.submitted[0].prompt == text.encode("<s>user: hello\nassistant: ", special=False)
    assert server.engine.submitted[0].prompt.count(0) == 1
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage.completion_tokens == 4


def test_a_stream_and_a_whole_answer_are_the_same(server):
    fields = {"model": "a", "prompt": "the cat sat on the mat", "max_tokens": 12, "seed": 1}
    events = list(server.client.completions.create(**fields, stream=True))
    whole = server.client.completions.create(**fields)
    assert "".join(event.choices[0].text for event in events) == whole.choices[0].text
    assert [event.choices[0].finish_reason for event in events] == [None] * (len(events) - 1) + ["length"]
    assert len({event.id for event in events}) == 1


@pytest.mark.parametrize("fields", [{"n": 4}, {"n": 4, "logprobs": 1}, {"n": 4, "stop": "never"}])
def test_what_came_together_is_written_together(serve, monkeypatch, fields):
    writes = []

    async def counted(request, response, data):
        writes.append(data)
        await write(request, response, data)

    monkeypatch.setattr(sse, "write", counted)
    with serve(crowd=4) as server:  # one that came late would have turns of its own
        ask(server, "POST", "/v1/completions", {"model": "a", "prompt": [72, 73], "max_tokens": 9, "stream": True, **fields})
    assert len(writes) <= 9 + 1  # one a turn of the engine, and the end


def test_a_chat_stream_begins_with_the_role_and_ends_with_usage(server):
    events = list(
        server.client.chat.completions.create(model="a", messages=HELLO, max_tokens=5, stream=True, stream_options={"include_usage": True})
    )
    assert (events[0].choices[0].delta.role, events[0].choices[0].delta.content) == ("assistant", "")
    assert all(event.choices[0].delta.role is None for event in events[1:-1])
    assert events[-2].choices[0].finish_reason == "length"
    assert events[-1].choices == []
    assert events[-1].usage.completion_tokens == 5
    assert all(event.usage is None for event in events[:-1])


def test_continuous_usage_counts_up(serve):
    options = {"include_usage": True, "continuous_usage_stats": True}
    paced = Paced(lambda request, k: request.prompt[k % 2])
    with serve(reply=paced) as server:
        fields = {"model": "a", "prompt": [72, 73], "max_tokens": 4, "stream": True}
        events = list(paced.reading(server.client.completions.create(**fields, stream_options=options)))
    counts = [event.usage.completion_tokens for event in events]
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert counts[-1] == 4


def test_the_wire_ends_with_done(server):
    _, headers, content = ask(server, "POST", "/v1/completions", {"model": "a", "prompt": "hi", "stream": True})
    assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    frames = content.split(b"\n\n")
    assert frames[-2:] == [b"data: [DONE]", b""]
    assert all(frame.startswith(b"data: {") for frame in frames[:-2])


def test_samples_of_prompts_are_indexed_prompt_by_prompt(server):
    prompts = ["the cat", "the dog"]
    answer = server.client.completions.create(model="a", prompt=prompts, n=3, max_tokens=2, seed=5)
    text = server.service.catalog.find("a").tokenizer
    assert [choice.index for choice in answer.choices] == list(range(6))
    tokens = [text.encode(prompt, special=True) for prompt in prompts]
    assert [request.prompt for request in server.engine.submitted] == [tokens[0]] * 3 + [tokens[1]] * 3
    assert [request.sampling.seed for request in server.engine.submitted] == [5, 6, 7, 5, 6, 7]
    assert answer.usage.prompt_tokens == len(tokens[0]) + len(tokens[1])
    assert answer.usage.completion_tokens == 12


def test_a_stop_string_over_token_borders_ends_the_request_and_frees_it(serve):
    with serve(turn_s=0.05) as server:  # all 90 would take seconds
        answer = server.client.completions.create(model="plain", prompt="abcdefgh", max_tokens=90, stop=["fga", "efg"])
        assert answer.choices[0].finish_reason == "stop"
        assert answer.choices[0].model_extra["stop_reason"] == "efg"
        assert answer.choices[0].text.endswith("d")
        assert until(lambda: server.engine.live == 0)
        assert len(server.engine.cancelled) == 1
        assert answer.usage.completion_tokens < 90


def test_the_eos_token_is_counted_but_not_shown(serve):
    with serve(reply=lambda request, k: (*request.prompt[-2:], EOS)[k]) as server:
        answer = server.client.completions.create(model="a", prompt=[72, 73, 74], max_tokens=9)
        assert answer.choices[0].text == server.service.catalog.find("a").tokenizer.decode([73, 74])
        assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("stop", 3)
        assert answer.choices[0].model_extra["stop_reason"] is None
        own = server.client.completions.create(model="a", prompt=[72, 73, 74], extra_body={"stop_token_ids": [74], "ignore_eos": True})
        assert own.choices[0].text == server.service.catalog.find("a").tokenizer.decode([73])
        assert own.choices[0].model_extra["stop_reason"] == 74


def test_a_client_that_leaves_a_stream_frees_its_blocks(serve):
    with serve(turn_s=0.2) as server:  # all 90 would take 18 s
        stream = server.client.completions.create(model="a", prompt="the cat", max_tokens=90, n=2, stream=True)
        next(iter(stream))
        assert server.engine.live == 2
        stream.close()
        assert until(lambda: server.engine.live == 0)
        assert len(server.engine.cancelled) == 2
        counted = b'vllm:request_success_total{finished_reason="abort",model_name="org/a"} 2.0'
        assert counted in ask(server, "GET", "/metrics")[2]


def test_a_client_that_leaves_a_whole_answer_frees_its_blocks(serve):
    with serve(turn_s=0.2) as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=WAIT_S)
        connection.request("POST", "/v1/completions", json.dumps({"model": "a", "prompt": "the cat", "max_tokens": 90}))
        assert until(lambda: server.engine.live == 1)
        connection.close()
        assert until(lambda: server.engine.live == 0)
        assert len(server.engine.cancelled) == 1


def test_a_finished_request_is_not_cancelled(server):
    server.client.completions.create(model="a", prompt="the cat")
    assert server.engine.cancelled == []


def test_64_clients_get_their_own_answers(server):
    async def ask_all():
        client = openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0)
        names = ["a", "plain"] * 32
        calls = [client.completions.create(model=name, prompt=[10 + k, 11 + k], max_tokens=8) for k, name in enumerate(names)]
        answers = await asyncio.gather(*calls)
        await client.close()
        return answers

    decode = server.service.catalog.find("a").tokenizer.decode
    for k, answer in enumerate(asyncio.run(ask_all())):
        assert answer.choices[0].text == decode([10 + k, 11 + k] * 4).rstrip("\ufffd")


def test_models_are_listed_and_found_by_any_name(server):
    assert [model.id for model in server.client.models.list()] == ["org/a", "a", "plain"]
    assert server.client.models.retrieve("org/a").id == "org/a"
    with pytest.raises(openai.NotFoundError):
        server.client.models.retrieve("org/b")


def test_errors_have_the_clients_classes(server):
    with pytest.raises(openai.NotFoundError) as unknown:
        server.client.completions.create(model="b", prompt="hi")
    assert (unknown.value.code, unknown.value.param, unknown.value.type) == ("model_not_found", "model", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as long:
        server.client.completions.create(model="a", prompt=[5] * 100)
    assert long.value.code == "context_length_exceeded"
    assert "This model's maximum context length is 100 tokens. However, " in long.value.message


@pytest.mark.parametrize(("path", "meant"), [("/chat/completions", "/v1/chat/completions"), ("/v1/v1/messages", "/v1/messages")])
def test_an_address_with_too_little_or_too_much_of_v1_is_told_so(server, path, meant):
    status, _, content = ask(server, "POST", path, {})
    assert status == 404 and f"Did you mean {meant}?" in content.decode()
    assert b"Did you mean" not in ask(server, "POST", "/nothing", {})[2]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v1/nothing", None, 404, "unknown_url"),
        ("GET", "/v1/completions", None, 405, "method_not_allowed"),
        ("POST", "/v1/completions", b"x" * (2**20 + 1), 413, "request_too_large"),
        ("POST", "/v1/completions", b"{", 400, None),
        ("POST", "/v1/completions", b"[1]", 400, None),
        ("POST", "/v1/completions", b"[" * 200_000, 400, None),
        ("POST", "/v1/completions", b'{"model": "a", "prompt": "x", "temperature": NaN}', 400, None),
        ("POST", "/v1/completions", b'{"model": "a", "prompt": "x", "temperature": 1e999}', 400, "invalid_value"),
        ("POST", "/v1/chat/completions", {"model": "plain", "messages": HELLO}, 400, None),
        ("POST", "/v1/chat/completions", {"model": "a", "messages": [{"role": "tool", "content": "x"}]}, 400, None),
    ],
)
def test_every_error_has_openais_shape(server, method, path, body, status, code):
    answered, headers, content = ask(server, method, path, body)
    error = json.loads(content)["error"]
    assert answered == status
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert headers["Content-Type"].startswith("application/json")


def test_an_errors_text_is_bounded():
    error = error_object(RequestError("\N{GRINNING FACE}" * 10**6, param="prompt"))["error"]
    assert isinstance(error, dict)
    assert len(error["message"].encode()) < 2000


def test_a_defect_is_a_500_without_its_text(serve):
    def broken(request, k):
        return 2**40  # no decoder takes it

    with serve(reply=broken) as server:
        status, error = error_of(server, "/v1/completions", {"model": "a", "prompt": "x"})
        assert (status, error["type"], error["code"]) == (500, "server_error", "internal_error")
        assert "overflow" not in error["message"].lower()
        _, _, content = ask(server, "POST", "/v1/completions", {"model": "a", "prompt": "x", "stream": True})
        assert b"internal_error" in content
        assert content.endswith(b"data: [DONE]\n\n")


def test_what_the_engine_refuses_is_refused_before_a_stream_begins(serve):
    with serve(most_tokens=20) as server:
        status, error = error_of(server, "/v1/completions", {"model": "a", "prompt": [5, 6], "max_tokens": 60, "stream": True, "n": 2})
        assert status == 400
        assert "there are 20" in error["message"]
        assert server.engine.live == 0


def test_request_ids_are_echoed_if_sane(server):
    sane = ask(server, "GET", "/health", headers={"X-Request-Id": "abc-1"})
    odd = ask(server, "GET", "/nothing", headers={"X-Request-Id": "a b<>"})
    assert sane[1]["X-Request-Id"] == "abc-1"
    assert len(odd[1]["X-Request-Id"]) == 32
    _, streamed, _ = ask(server, "POST", "/v1/completions", {"model": "a", "prompt": "x", "stream": True}, {"X-Request-Id": "s1"})
    assert streamed["X-Request-Id"] == "s1"


def test_a_dead_engine_fails_its_requests_and_health(serve):
    with serve(turn_s=0.05) as server:
        stream = server.client.completions.create(model="a", prompt="the cat", max_tokens=90, stream=True)
        server.engine.die()
        with pytest.raises(openai.APIError, match="stopped before the answer was complete"):
            list(stream)
        assert ask(server, "GET", "/health")[0] == 503
        assert error_of(server, "/v1/completions", {"model": "a", "prompt": "x"})[0] == 503


def test_metrics_count_requests_and_tokens(server):
    server.client.completions.create(model="a", prompt=[5, 6, 7], max_tokens=4)
    _, headers, content = ask(server, "GET", "/metrics")
    lines = content.decode().splitlines()
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    for line in (
        'vllm:prompt_tokens_total{model_name="org/a"} 3.0',
        'vllm:generation_tokens_total{model_name="org/a"} 4.0',
        'vllm:request_success_total{finished_reason="length",model_name="org/a"} 1.0',
        'vllm:time_to_first_token_seconds_count{model_name="org/a"} 1.0',
        'vllm:inter_token_latency_seconds_count{model_name="org/a"} 3.0',
        'vllm:num_requests_running{model_name="org/a",unit="0"} 0.0',
        'vllm:num_requests_waiting{model_name="plain",unit="0"} 0.0',
        'vllm:kv_cache_usage_perc{model_name="org/a",unit="0"} 0.0',
        'vllm:num_preemptions_total{model_name="org/a",unit="0"} 0.0',
        'muxjax_kv_blocks{model_name="",state="free",unit="0"} 1000.0',
        'muxjax_kv_quota_blocks{model_name="org/a",unit="0"} 100.0',
    ):
        assert line in lines


def test_version_and_health(server):
    assert ask(server, "GET", "/health")[0] == 200
    assert set(json.loads(ask(server, "GET", "/version")[2])) == {"version"}


def test_a_dead_server_is_not_ready(server):
    def statuses():
        return [ask(server, *asked)[0] for asked in (("GET", "/health"), ("GET", "/ping"), ("POST", "/ping"), ("GET", "/ready"))]

    assert statuses() == [200] * 4
    server.engine.die()
    assert statuses() == [503] * 4


def test_load_counts_requests_of_each_model(serve):
    with serve(turn_s=0.05) as server:
        stream = server.client.completions.create(model="a", prompt="the cat", max_tokens=90, stream=True)
        told = json.loads(ask(server, "GET", "/load")[2])
        stream.close()
    assert told == {"server_load": 1, "models": {"org/a": {"running": 1, "waiting": 0}, "plain": {"running": 0, "waiting": 0}}}


def test_tokens_from_the_cache_are_counted_once_for_each_prompt(serve):
    with serve(cached_tokens=2) as server:
        answer = server.client.completions.create(model="a", prompt=[[5, 6, 7], [5, 6, 8]], n=2, max_tokens=1)
        assert answer.usage.prompt_tokens_details.cached_tokens == 4
        chat = server.client.chat.completions.create(model="a", messages=HELLO, max_tokens=1)
        assert chat.usage.prompt_tokens_details.cached_tokens == 2


def test_a_stop_string_may_be_shown_and_the_first_tokens_may_be_free_of_it(server):
    fields = {"model": "plain", "prompt": "abcdefgh", "max_tokens": 60, "stop": "fg"}
    shown = server.client.completions.create(**fields, extra_body={"include_stop_str_in_output": True})
    hidden = server.client.completions.create(**fields)
    later = server.client.completions.create(**fields, extra_body={"min_tokens": 12})
    assert shown.choices[0].text == hidden.choices[0].text + "fg"
    assert later.choices[0].text.startswith(shown.choices[0].text)
    assert later.choices[0].text.count("fg") == 1


def test_special_tokens_are_shown_on_request_and_the_last_one_as_a_stop_string(serve):
    with serve(reply=lambda request, k: (0, 72, EOS)[k]) as server:
        fields = {"model": "a", "prompt": [72], "max_tokens": 9}
        letter = server.service.catalog.find("a").tokenizer.decode([72])
        special = {"skip_special_tokens": False}
        assert server.client.completions.create(**fields).choices[0].text == letter
        assert server.client.completions.create(**fields, extra_body=special).choices[0].text == f"<s>{letter}"
        both = {**special, "include_stop_str_in_output": True}
        assert server.client.completions.create(**fields, extra_body=both).choices[0].text == f"<s>{letter}</s>"


def test_token_ids_are_told_on_request(server, serve):
    ids = {"return_token_ids": True}
    answer = server.client.completions.create(model="a", prompt=[72, 73], max_tokens=3, extra_body=ids)
    extra = answer.choices[0].model_extra
    assert (extra["prompt_token_ids"], extra["token_ids"]) == ([72, 73], [72, 73, 72])
    paced = Paced(lambda request, k: request.prompt[k % 2])
    with serve(reply=paced) as slow:
        events = list(paced.reading(slow.client.completions.create(model="a", prompt=[72, 73], max_tokens=3, extra_body=ids, stream=True)))
    assert [token for event in events for token in event.choices[0].model_extra["token_ids"]] == [72, 73, 72]
    assert ["prompt_token_ids" in event.choices[0].model_extra for event in events] == [True, False, False]
    chat = server.client.chat.completions.create(model="a", messages=HELLO, max_tokens=1, extra_body=ids)
    assert chat.model_extra["prompt_token_ids"][: len(chat.choices[0].model_extra["token_ids"])] == chat.choices[0].model_extra["token_ids"]


class Cat(pydantic.BaseModel):
    name: str


def test_the_client_parses_an_answer_of_its_schema(serve, tokenizer):
    said = [*tokenizer.encode('{"name": "Tom"}', special=False), EOS]
    with serve(reply=lambda request, k: said[k]) as server:
        answer = server.client.chat.completions.parse(model="a", messages=HELLO, response_format=Cat)
        assert answer.choices[0].message.parsed == Cat(name="Tom")
        assert server.engine.submitted[0].sampling.grammar.kind == "json_schema"


def test_an_unknown_field_is_logged_once(server, caplog):
    for _ in range(2):
        server.client.completions.create(model="a", prompt="x", max_tokens=1, extra_body={"frobnicate": 1})
    assert caplog.text.count("frobnicate") == 1
