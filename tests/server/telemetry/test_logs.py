"""What the logs say of requests, and what they never say."""

import io
import json
import logging
import re
import threading
import time

import pytest

from muxjax.server.config import HttpOptions, load_options
from muxjax.server.telemetry import logs
from muxjax.server.telemetry.logs import Access
from tests.server.http.test_app import ask

SECRET = "the cat's secret"


@pytest.fixture
def read():
    """Lines of the log since the last look; logging as it was before is restored."""
    root, muxjax = logging.getLogger(), logging.getLogger("muxjax")
    before = root.handlers[:], root.level, muxjax.level
    stream = io.StringIO()

    def configured(log_format: str, level: str = "info"):
        logs.configure(level, log_format, stream)

        def lines() -> list[str]:
            found = stream.getvalue().splitlines()
            stream.seek(0)
            stream.truncate()
            return found

        return lines

    yield configured
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    muxjax.setLevel(before[2])


def test_an_answer_is_one_json_line_with_its_id_model_tokens_and_times(server, read):
    lines = read("json")
    ask(server, "POST", "/v1/completions", {"model": "a", "prompt": SECRET, "max_tokens": 5, "n": 2}, {"X-Request-Id": "mine"})
    (line,) = map(json.loads, lines())

    assert line.items() >= {
        "level": "info", "request_id": "mine", "method": "POST", "path": "/v1/completions", "status": 200, "model": "org/a", "tokens": 10,
    }.items()  # fmt: skip
    assert line["prompt_tokens"] > 2
    assert 0 < line["ttft_s"] <= line["duration_s"]


def test_text_lines_say_the_same(server, read):
    lines = read("text")
    ask(server, "POST", "/v1/chat/completions", {"model": "a", "messages": [{"role": "user", "content": SECRET}], "max_tokens": 3})
    (line,) = lines()

    assert re.search(r"INFO muxjax.access: \[[0-9a-f]{32}\] answered method=POST path=/v1/chat/completions status=200 model=org/a", line)
    assert " tokens=3 ttft_s=" in line


@pytest.mark.parametrize("stream", [False, True])
def test_every_line_of_a_request_has_its_id(server, read, stream):
    """One is written by the thread that parses, one by the event loop, of a stream after its last byte."""
    lines, found = read("json"), []
    body = {"model": "a", "prompt": "x", "max_tokens": 2, "stream": stream, "an_unknown_field_of_the_log_test": 1}
    ask(server, "POST", "/v1/completions", body, {"X-Request-Id": f"id-{stream}"})
    end_s = time.monotonic() + 30
    while len(found) < 2 and time.monotonic() < end_s:
        found += map(json.loads, lines())
        time.sleep(0.01)

    assert [line["logger"] for line in found] == ["muxjax.server.http.answering", "muxjax.access"]
    assert [line["request_id"] for line in found] == [f"id-{stream}"] * 2


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_text_of_a_request_is_ever_logged(server, read, log_format):
    lines = read(log_format, "debug")
    ask(server, "POST", "/v1/completions", {"model": "a", "prompt": SECRET})
    ask(server, "POST", "/v1/completions", {"model": "a", "prompt": {"text": SECRET}})
    ask(server, "POST", "/v1/chat/completions", {"model": "a", "messages": [{"role": "tool", "content": SECRET}], "stream": True})
    ask(server, "POST", "/v1/completions", {"model": "a", "prompt": SECRET, "stop": [SECRET], "max_tokens": "x"})
    found = lines()

    assert len(found) >= 4
    assert [line for line in found if "secret" in line] == []


def test_a_refused_request_is_logged_without_a_model(server, read):
    lines = read("json")
    ask(server, "POST", "/v1/completions", {"model": "nobody", "prompt": "x"})
    (line,) = map(json.loads, lines())

    assert line["status"] == 404
    assert "model" not in line and "ttft_s" not in line


def test_what_is_asked_all_the_time_is_not_logged_unless_one_debugs(server, read):
    lines = read("text")
    ask(server, "GET", "/health")
    ask(server, "GET", "/ping")
    ask(server, "GET", "/server_info/live")
    assert lines() == []
    lines = read("text", "debug")
    ask(server, "GET", "/health")
    assert len([line for line in lines() if "muxjax.access" in line]) == 1


def test_a_path_cannot_forge_a_line(server, read):
    lines = read("text")
    ask(server, "GET", "/x%0AERROR%20forged")

    assert len(lines()) == 1


def test_an_exception_stays_within_its_json_line(read):
    lines = read("json")
    try:
        raise ValueError("planted")
    except ValueError:
        logging.getLogger("muxjax.test").exception("it broke")
    (line,) = map(json.loads, lines())

    assert line["message"] == "it broke" and "ValueError: planted" in line["exception"]
    assert "request_id" not in line


def test_another_threads_line_belongs_to_no_request(read):
    lines = read("json")
    logs.current.set(Access({"X-Request-Id": "mine"}))
    try:
        logging.getLogger("muxjax.test").warning("here")
        thread = threading.Thread(target=lambda: logging.getLogger("muxjax.test").warning("there"))
        thread.start()
        thread.join()
    finally:
        logs.current.set(None)
    here, there = map(json.loads, lines())

    assert here["request_id"] == "mine"
    assert "request_id" not in there


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é", "a\nb"])
def test_an_odd_id_is_replaced_by_ours(given):
    assert re.fullmatch("[0-9a-f]{32}", Access({"X-Request-Id": given}).id)


def test_the_flags_choose_format_trace_and_spans(tmp_path):
    _, http, _ = load_options([f"a={tmp_path}"], {"log_format": "json", "trace": str(tmp_path / "trace.json"), "otel": "true"})

    assert (http.log_format, http.trace, http.otel) == ("json", tmp_path / "trace.json", True)
    assert (HttpOptions().log_format, HttpOptions().trace, HttpOptions().otel) == ("text", None, False)
