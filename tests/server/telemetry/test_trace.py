"""Traces of requests and jobs, in files and as OpenTelemetry's spans."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from muxjax.engine.job_records import JobRecord
from muxjax.errors import ConfigError
from muxjax.server.config import HttpOptions
from muxjax.server.telemetry.request_record import RequestRecord
from muxjax.server.telemetry.trace import TraceFile
from muxjax.server.telemetry.watcher import open_watchers
from muxjax.types import Finish
from tests.server.http.test_app import ask

ROOT = Path(__file__).parents[3]


def request(**changes) -> RequestRecord:
    fields = {
        "id": "cmpl-1", "http_id": "h", "traceparent": "", "model": "a", "arrival_s": 1.0, "started_s": 1.25, "first_s": 1.5, "last_s": 2.5,
        "end_s": 2.5, "prompt_tokens": 7, "tokens": 5, "finish": Finish.LENGTH,
    }  # fmt: skip
    return RequestRecord(**fields | changes)


def job(**changes) -> JobRecord:
    fields = {"model": "a", "phase": "decode", "start_s": 1.0, "end_s": 1.5, "rows": 2, "tokens": 2, "prefills": ()}
    return JobRecord(**fields | changes)


def test_a_requests_spans_follow_each_other_from_arrival_to_end():
    assert request().spans() == [("queued", 1.0, 1.25), ("prefill", 1.25, 1.5), ("decode", 1.5, 2.5)]
    assert request(started_s=None, first_s=None, last_s=None, tokens=0).spans() == [("queued", 1.0, 2.5)]
    assert request(first_s=None, last_s=None, tokens=0).spans() == [("queued", 1.0, 1.25), ("prefill", 1.25, 2.5)]
    assert request().ttft_s == 0.5 and request().tpot_s == 0.25
    assert request(tokens=1).tpot_s is None


def test_a_trace_has_a_track_for_each_lane(tmp_path):
    trace = TraceFile(tmp_path / "trace.json")
    for record in (job(), job(phase="prefill", lane=2), job(model="b"), job(start_s=2.0, end_s=2.5)):
        trace.job(record)
    trace.close()
    events = json.loads((tmp_path / "trace.json").read_text())
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    boxes = [event for event in events if event["ph"] == "X"]

    assert sorted(names.values()) == ["unit 0, lane 0", "unit 0, lane 2"]
    assert [(names[box["tid"]], box["name"]) for box in boxes] == [
        ("unit 0, lane 0", "a: decode"), ("unit 0, lane 2", "a: prefill"), ("unit 0, lane 0", "b: decode"), ("unit 0, lane 0", "a: decode"),
    ]  # fmt: skip
    assert all(box["dur"] == 500_000 for box in boxes)
    assert boxes[3]["ts"] - boxes[0]["ts"] == pytest.approx(1e6)


def test_a_requests_events_begin_and_end_in_pairs_within_the_whole(tmp_path):
    trace = TraceFile(tmp_path / "trace.json")
    trace.request(request())
    trace.request(request(id="cmpl-2", finish=Finish.ABORT))
    trace.close()
    events = [event for event in json.loads((tmp_path / "trace.json").read_text()) if event.get("cat") == "request"]
    one, other = ([event for event in events if event["id"] == number] for number in (1, 2))

    assert [(event["name"], event["ph"]) for event in one] == [
        ("a", "b"), ("queued", "b"), ("queued", "e"), ("prefill", "b"), ("prefill", "e"), ("decode", "b"), ("decode", "e"), ("a", "e"),
    ]  # fmt: skip
    assert [event["ts"] for event in one] == sorted(event["ts"] for event in one)
    assert one[0]["args"] == {"id": "cmpl-1", "request_id": "h", "prompt_tokens": 7, "tokens": 5, "finish": "length"}
    assert other[0]["args"]["finish"] == "abort"


def test_a_trace_is_whole_json_after_every_write(tmp_path):
    path = tmp_path / "trace.json"
    trace = TraceFile(path)
    for count in range(100):
        assert len(json.loads(path.read_text())) == 2 + count
        trace._append([{"name": "x" * count, "ph": "i"}])
    trace.close()


def test_events_are_written_before_the_end(tmp_path):
    path = tmp_path / "trace.json"
    trace = TraceFile(path)
    size = path.stat().st_size
    trace.job(job())
    begin_s = time.monotonic()
    while path.stat().st_size == size:
        assert time.monotonic() - begin_s < 30
        time.sleep(0.01)
    trace.close()


def test_a_trace_is_whole_json_after_a_kill(tmp_path):
    path = tmp_path / "trace.json"
    program = (
        "import sys; from pathlib import Path; from muxjax.server.telemetry.trace import TraceFile\n"
        "from tests.server.telemetry.test_trace import job\n"
        "trace = TraceFile(Path(sys.argv[1]))\n"
        "while True: trace.job(job())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=ROOT)
    try:
        while not path.exists() or path.stat().st_size < 100_000:
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    assert len(json.loads(path.read_text())) > 500


def test_a_longer_trace_of_before_leaves_nothing_behind(tmp_path):
    path = tmp_path / "trace.json"
    path.write_text("x" * 10_000)
    TraceFile(path).close()

    assert len(json.loads(path.read_text())) == 2


def test_memory_is_bounded_where_the_disk_is_slow(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("muxjax.server.telemetry.trace._MOST_QUEUED", 8)
    trace = TraceFile(tmp_path / "trace.json")
    append, gate = trace._append, threading.Event()
    trace._append = lambda events: gate.wait() and append(events)
    for _ in range(100):
        trace.job(job())
    gate.set()
    trace.close()

    written = [event for event in json.loads((tmp_path / "trace.json").read_text()) if event["ph"] == "X"]
    assert 8 <= len(written) <= 9
    assert "lacks" in caplog.text


def test_a_full_disk_ends_the_trace_and_not_the_server(tmp_path, caplog):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    trace = TraceFile(tmp_path / "trace.json")
    full = os.open("/dev/full", os.O_WRONLY)
    own, trace._file = trace._file, full
    os.close(own)
    for _ in range(10):
        trace.job(job())
    trace.close()

    assert "ends here" in caplog.text


def test_a_trace_that_cannot_be_written_is_told_before_models_are_loaded(tmp_path):
    with pytest.raises(ConfigError, match="cannot write the trace"), open_watchers(HttpOptions(trace=tmp_path / "no" / "trace.json")):
        pass


def test_a_served_request_is_traced_with_its_jobs(serve, tmp_path):
    trace = TraceFile(tmp_path / "trace.json")
    with serve() as server:
        server.service.watchers.append(trace)
        ask(server, "POST", "/v1/completions", {"model": "a", "prompt": "hello", "max_tokens": 4}, {"X-Request-Id": "mine"})
    trace.close()
    events = json.loads((tmp_path / "trace.json").read_text())
    whole = next(event for event in events if event["ph"] == "b" and event["name"] == "org/a")

    assert whole["args"]["request_id"] == "mine" and whole["args"]["tokens"] == 4
    assert [event["name"] for event in events if event["ph"] == "X"] == ["org/a: prefill", *["org/a: decode"] * 3]
    assert {"queued", "prefill", "decode"} <= {event["name"] for event in events if event["ph"] == "b"}


def test_jobs_that_come_before_the_submission_returns_are_traced(serve, tmp_path, monkeypatch):
    trace = TraceFile(tmp_path / "trace.json")
    with serve() as server:
        submit = server.engine.submit

        def slow(request, **options):
            submit(request, **options)
            time.sleep(0.3)

        monkeypatch.setattr(server.engine, "submit", slow)
        server.service.watchers.append(trace)
        ask(server, "POST", "/v1/completions", {"model": "a", "prompt": "hello", "max_tokens": 4})
    trace.close()

    assert "prefill" in {event["name"] for event in json.loads((tmp_path / "trace.json").read_text()) if event["ph"] == "b"}
