"""`/api/chat`, `/api/generate` and what goes with them, as Ollama's clients ask."""

import asyncio
import json
import urllib.request
from pathlib import Path

import pytest

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import RequestError
from muxjax.server.background import in_background
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.generation import Stamp
from muxjax.server.ollama.request import parse
from muxjax.server.service import Service
from muxjax.server.text.tokenizer import ByteTokenizer
from tests.fakes import FakeEngine, FakeLifecycle
from tests.server.http.test_app import ask
from tests.server.kit import STAMP, Server, served
from tests.server.speaking import saying

HELLO = [{"role": "user", "content": "hello"}]
CALL = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}


def asked(server, path: str, **body):
    """Status, kind of content, and the answer's objects, line by line."""
    status, headers, content = ask(server, "POST", path, {"model": "a", **body})
    return status, headers["Content-Type"], [json.loads(line) for line in content.splitlines()]


def prompt_of(server) -> str:
    return server.service.catalog.find("a").tokenizer.decode(server.engine.submitted[-1].prompt, special=True)


def test_a_chat_comes_in_lines_unless_it_is_wanted_whole(serve, tokenizer):
    with serve(reply=saying(tokenizer, "the cat sat"), turn_s=0.1) as server:  # tokens that are late would share a line
        status, kind, lines = asked(server, "/api/chat", messages=HELLO)
        whole_status, whole_kind, (whole,) = asked(server, "/api/chat", messages=HELLO, stream=False)
    *parts, end = lines

    assert (status, kind, whole_status) == (200, "application/x-ndjson", 200) and whole_kind.startswith("application/json")
    assert "".join(part["message"]["content"] for part in parts) == "the cat sat" and len(parts) > 1
    assert all(part["done"] is False and part["model"] == "a" for part in parts)
    assert (end["done"], end["done_reason"], end["message"]["content"]) == (True, "stop", "")
    assert whole["message"] == {"role": "assistant", "content": "the cat sat"} and whole["done"]
    assert end["eval_count"] == whole["eval_count"] > 1
    assert end["prompt_eval_count"] == len(server.engine.submitted[0].prompt)
    assert end["total_duration"] >= end["prompt_eval_duration"] + end["eval_duration"] - 1 > 0


def test_generate_speaks_by_the_template_and_raw_or_without_one_plainly(serve, tokenizer):
    with serve(reply=saying(tokenizer, "the cat")) as server:
        *_, (whole,) = asked(server, "/api/generate", prompt="hello", system="be kind", stream=False)
        assert whole["response"] == "the cat" and "message" not in whole
        assert prompt_of(server) == "<s>system: be kind\nuser: hello\nassistant: "
        asked(server, "/api/generate", prompt="hello", raw=True)
        assert prompt_of(server) == "<s>hello"
        *_, lines = asked(server, "/api/generate", model="plain:latest", prompt="hello")
        assert prompt_of(server) == "<s>hello" and lines[-1]["model"] == "plain:latest"


def read(catalog: Catalog, chat: bool = True, **body):
    return parse({"model": "a", **({"messages": HELLO} if chat else {}), **body}, catalog, STAMP, chat=chat)


def test_options_have_the_meaning_they_have_there(catalog):
    options = {
        "temperature": 0.5,
        "top_k": 7,
        "top_p": 0.9,
        "min_p": 0.1,
        "seed": 3,
        "stop": ["x"],
        "repeat_penalty": 1.2,
        "num_predict": 9,
    }
    generation = read(catalog, options=options)
    sampling = generation.requests[0].sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p, sampling.seed) == (0.5, 7, 0.9, 0.1, 3)
    assert (sampling.repetition_penalty, sampling.max_tokens, generation.stop) == (1.2, 9, ("x",))
    for endless in (-1, -2):
        assert read(catalog, options={"num_predict": endless}).requests[0].sampling.max_tokens > 50
    assert read(catalog, chat=False, raw=True, prompt="hi").requests[0].sampling.max_tokens > 50
    assert read(catalog, options={"mirostat": 1}).unknown == ("options.mirostat",)


def test_a_format_is_json_or_a_schema(catalog):
    for form in ("json", {"type": "object", "properties": {"a": {"type": "integer"}}}):
        assert read(catalog, format=form).requests[0].sampling.grammar is not None
    assert read(catalog, format="").requests[0].sampling.grammar is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"options": {"temperature": 9}}, "options.temperature"),
        ({"options": {"repeat_penalty": 0}}, "options.repeat_penalty"),
        ({"options": {"num_predict": "x"}}, "options.num_predict"),
        ({"options": []}, "options"),
        ({"format": "xml"}, "format"),
        ({"format": {"type": "object", "properties": 3}}, "format"),
        ({"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "messages[0].images"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": "x"}, "messages"),
        ({"stream": "yes"}, "stream"),
        ({"model": 3}, "model"),
    ],
)
def test_what_is_wrong_is_named_as_the_client_has_named_it(catalog, body, param):
    with pytest.raises(RequestError) as refused:
        read(catalog, **body)
    assert refused.value.param == param or (refused.value.param or "").startswith(param + ".")


@pytest.mark.parametrize("field", ["suffix", "template", "images"])
def test_what_would_change_the_answer_and_is_not_there_is_refused(catalog, field):
    with pytest.raises(RequestError, match=f"{field} is not supported"):
        read(catalog, chat=False, prompt="x", **{field: ["x"] if field == "images" else "x"})
    read(catalog, chat=False, prompt="x", **{field: [] if field == "images" else ""})


def test_errors_have_ollamas_shape(server):
    wrong = {404: {"model": "none", "messages": HELLO}, 400: {"model": "a", "messages": HELLO, "options": 3}}
    for status, body in wrong.items():
        answered, _, content = ask(server, "POST", "/api/chat", body)
        told = json.loads(content)
        assert answered == status and set(told) == {"error"} and isinstance(told["error"], str)
    assert ask(server, "POST", "/api/chat", b"{")[0] == 400
    assert set(json.loads(ask(server, "POST", "/api/pull", {"model": "a"})[2])) == {"error"}


def test_an_error_in_a_stream_is_its_last_line(serve):
    with serve(turn_s=0.05) as server:
        body = json.dumps({"model": "a", "messages": HELLO, "options": {"num_predict": 60}}).encode()
        with urllib.request.urlopen(server.url.replace("/v1", "/api/chat"), body) as answer:
            first = json.loads(next(answer))
            server.engine.die()
            last = [json.loads(line) for line in answer][-1]
    assert first["message"]["content"] and set(last) == {"error"}


def test_results_of_tools_find_the_calls_they_are_of(catalog):
    from muxjax.server.ollama import request as module
    from muxjax.server.openai.fields import Fields

    other = {"function": {"name": "time", "arguments": {}}}
    told = [{"role": "assistant", "content": "", "tool_calls": [CALL, other]}, {"role": "tool", "content": "noon", "tool_name": "time"}]
    told += [{"role": "tool", "content": "rain"}]
    assistant, second, first = module._messages(Fields({"messages": told}).objects("messages"))
    ids = [call["id"] for call in assistant["tool_calls"]]
    assert (second["tool_call_id"], first["tool_call_id"]) == (ids[1], ids[0]) and ids[0] != ids[1]
    assert json.loads(assistant["tool_calls"][0]["function"]["arguments"]) == {"city": "Oslo"}


def test_models_are_listed_shown_and_told_running(server):
    tags = json.loads(ask(server, "GET", "/api/tags")[2])["models"]
    assert [model["name"] for model in tags] == ["org/a", "a", "plain"]
    assert tags[0]["modified_at"] == "1970-01-01T00:00:01Z" and tags[0]["details"]["format"] == "safetensors"
    assert [model["name"] for model in json.loads(ask(server, "GET", "/api/ps")[2])["models"]] == ["org/a", "a", "plain"]
    shown = json.loads(ask(server, "POST", "/api/show", {"model": "a"})[2])
    assert shown["capabilities"] == ["completion", "tools"] and shown["model_info"]["general.context_length"] == 100
    assert ask(server, "POST", "/api/show", {"model": "none"})[0] == 404
    assert "version" in json.loads(ask(server, "GET", "/api/version")[2])
    assert ask(server, "HEAD", "/")[0] == 200


@pytest.mark.parametrize("auto_wake", [True, False])
def test_asking_nothing_wakes_the_model_or_says_that_it_sleeps(auto_wake):
    unit = UnitOptions(models=(ModelOptions(name="a", path=Path("a"), auto_wake=auto_wake),))
    lifecycle = FakeLifecycle(["a"])
    service = Service(FakeEngine(["a"]), Catalog([served(ByteTokenizer(300), "a")]), unit, lifecycle)
    assert service.fleet
    asyncio.run(service.fleet.sleep("a", timeout_s=1.0))
    with in_background(service, HttpOptions(port=0)) as url:
        status, _, (told,) = asked(Server(service._engine, service, url), "/api/generate")
    if auto_wake:
        assert (told["done"], told["done_reason"], told["response"]) == (True, "load", "")
    else:
        assert (status, told) == (503, {"error": "The model `a` is asleep."})
    assert lifecycle.states() == {"a": "ready" if auto_wake else "asleep"}


def test_a_stamp_is_told_as_the_client_named_the_model(catalog):
    assert read(catalog, model="a").model.name == "org/a"
    assert Stamp.new("x").id.startswith("x")
