"""`muxjax bench` against a server that makes tokens up."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from muxjax.__main__ import main
from muxjax.bench.records import Run, read_runs
from muxjax.commands.bench import serve
from muxjax.commands.bench.session import Session
from muxjax.errors import ConfigError
from tests.bench.stub import Stub

FEW = ["--rate", "50", "--num-prompts", "6", "--random-input-len", "8", "--random-output-len", "3", "--warmup", "1"]


@pytest.fixture(autouse=True)
def _nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(autouse=True)
def _a_busy_machine_is_no_failure(monkeypatch):
    monkeypatch.setattr("muxjax.bench.lag.LIMIT_S", 10.0)


@contextlib.contextmanager
def serving(stub: Stub) -> Iterator[str]:
    """Its URL, while it runs in a thread of its own."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    found: list[str] = []

    async def run(over: asyncio.Event) -> None:
        server, url = await stub.start()
        found.append(url)
        ready.set()
        async with server:
            await over.wait()

    over = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(run(over)))
    thread.start()
    ready.wait()
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def test_a_block_is_printed_and_files_are_written(capsys):
    stub = Stub(models=("a", "b"))
    with serving(stub) as url:
        status = main(["bench", "serve", "--base-url", url, *FEW, "--seeds", "3", "4", "--records", "r.jsonl", "--json", "r.json"])
    said, followed = capsys.readouterr()

    assert followed.splitlines() == ["asking alone: 2", "muxjax: 50 requests/s, seed 3: 6", "muxjax: 50 requests/s, seed 4: 6"]
    assert status == 0 and said.startswith(
        "============ Serving Benchmark Result ============\nSuccessful requests:                     12"
    )
    assert [(run.begin.seed, len(run.records), run.complete) for run in read_runs(Path("r.jsonl"))] == [(3, 6, True), (4, 6, True)]
    assert json.loads(Path("r.json").read_text())["completed"] == 12
    assert len(stub.heard) == 14 and {body["model"] for body in stub.heard} == {"a", "b"}  # with one alone of each model
    assert {len(body["prompt"]) for body in stub.heard} == {8} and {body["max_tokens"] for body in stub.heard} == {3}


def test_each_model_may_have_a_server_of_its_own():
    first, second = Stub(), Stub()
    with serving(first) as one, serving(second) as other:
        assert main(["bench", "serve", "--model", f"a={one}", "--model", f"b={other}", *FEW, "--num-prompts", "30"]) == 0
    assert {body["model"] for body in first.heard} == {"a"} and {body["model"] for body in second.heard} == {"b"}


def test_a_workload_is_asked_of_the_models_that_it_names_or_that_they_are_called():
    stub = Stub()
    with serving(stub) as url:
        rename = [word for old in ("8b", "3b", "1b") for word in ("--rename", f"{old}=x{old}")]
        size = ["--workload", "llama-trio", "--num-prompts", "30", "--rate-scale", "5", "--warmup", "0", "--max-model-len", "20"]
        assert main(["bench", "serve", "--base-url", url, *size, *rename]) == 0
    assert {body["model"] for body in stub.heard} == {"x8b", "x3b", "x1b"} and len(stub.heard) == 30
    assert max(len(body["prompt"]) + body["max_tokens"] for body in stub.heard) <= 20


def test_a_data_set_is_asked_as_a_chat_or_completed():
    Path("d.jsonl").write_text('{"prompt": "one", "output_tokens": 2}\n{"prompt": "two", "output_tokens": 3}\n')
    stub = Stub()
    with serving(stub) as url:
        asked = ["bench", "serve", "--base-url", url, "--dataset", "d.jsonl", "--num-prompts", "4", "--rate", "inf", "--warmup", "0"]
        assert main(asked) == main([*asked, "--endpoint", "completions"]) == 0
    chats = sorted(body["messages"][0]["content"] for body in stub.heard[:4])
    assert chats == sorted(body["prompt"] for body in stub.heard[4:]) == ["one", "one", "two", "two"]
    assert [head.split()[1] for head in stub.heads[3:5]] == [b"/v1/chat/completions", b"/v1/completions"]


def test_a_trace_is_replayed_to_its_rate():
    lines = [{"muxjax_trace": 1}, *({"time_s": k / 10, "model": "a", "prompt_tokens": 4, "output_tokens": 2} for k in range(5))]
    Path("t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with serving(Stub()) as url:
        assert main(["bench", "serve", "--base-url", url, "--trace", "t.jsonl", "--rate-scale", "2", "--records", "r.jsonl"]) == 0
    (run,) = read_runs(Path("r.jsonl"))
    assert sorted(record.intended_s for record in run.records) == [0.0, 0.05, 0.1, 0.15, 0.2]
    assert run.begin.rate_rps == pytest.approx(5 / 0.2)


def test_a_seed_may_ask_models_that_the_one_before_did_not(capsys):
    for seed, model in enumerate("ab"):
        lines = [{"muxjax_trace": 1}, {"time_s": 0.1, "model": model, "prompt_tokens": 4, "output_tokens": 2}]
        Path(f"t-{seed}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with serving(Stub()) as url:
        asked = ["bench", "serve", "--base-url", url, "--trace", "t-{seed}.jsonl", "--seeds", "0", "1", "--warmup", "1"]
        assert main([*asked, "--records", "r.jsonl"]) == 0
    assert [sorted(run.begin.alone) for run in read_runs(Path("r.jsonl"))] == [["a"], ["a", "b"]]
    assert re.search(r"\na +1 .*\nb +1 ", capsys.readouterr().out)


def test_failed_requests_are_told_and_counted(capsys):
    wrong = iter([None, (503, '{"error": {"message": "busy"}}')] + [None] * 10)
    with serving(Stub(wrong=lambda body: next(wrong))) as url:
        assert main(["bench", "serve", "--base-url", url, *FEW]) == 0
    said = capsys.readouterr().out
    assert re.search(r"Failed requests: +1 ", said) and "1 failed: busy" in said


def test_where_every_request_fails_so_does_the_command(capsys):
    with serving(Stub(wrong=lambda body: (503, '{"error": {"message": "busy"}}'))) as url:
        assert main(["bench", "serve", "--base-url", url, *FEW, "--warmup", "0"]) == 1
    said = capsys.readouterr().out
    assert "FAILED: no request was answered" in said and "INVALID" not in said


def test_a_client_that_fell_behind_says_so(monkeypatch, capsys):
    monkeypatch.setattr("muxjax.bench.lag.LIMIT_S", 1e-9)
    monkeypatch.setattr("muxjax.bench.lag.LIMIT_FRAC", 0.0)
    with serving(Stub()) as url:
        assert main(["bench", "serve", "--base-url", url, *FEW]) == serve.INVALID
    assert "INVALID: the client fell behind" in capsys.readouterr().out


def test_records_are_told_again_with_other_targets(capsys):
    with serving(Stub(first_s=0.05)) as url:
        for rate in ("50", "60"):
            main(["bench", "serve", "--base-url", url, *FEW, "--rate", rate, "--records", "r.jsonl"])
    capsys.readouterr()
    assert main(["bench", "report", "r.jsonl", "--ttft", "0.001"]) == 0
    said = capsys.readouterr().out
    assert said.count("Serving Benchmark Result") == 2 and "TTFT within 1 ms: 0.0%" in said
    assert main(["bench", "plot", "r.jsonl", "-o", "p.svg", "--ttft", "1"]) == 0
    assert Path("p.svg").read_text().startswith("<?xml")
    assert main(["bench", "report", "r.jsonl", "--json", "r.json"]) == 2


def test_a_sweep_finds_the_rate_and_goes_on_where_it_was(capsys):
    """The stub refuses whoever is to ask more than 100 times a second, as the file of records says; a busy machine asks when it can."""
    path = Path("r.jsonl")

    def refusal(body) -> tuple[int, str] | None:
        begins = re.findall(r'^{"muxjax_bench".*$', path.read_text(), re.MULTILINE) if path.exists() else []
        return (503, "busy") if begins and json.loads(begins[-1])["rate_rps"] > 100 else None

    with serving(stub := Stub(wrong=refusal)) as url:
        asked = ["bench", "sweep", "--base-url", url, *FEW, "--burstiness", "inf", "--num-prompts", "120", "--records", "r.jsonl"]
        asked += ["--e2e", "5", "--most-scale", "8", "--json", "s.json"]
        assert main(asked) == 0
        first, count = capsys.readouterr().out, len(stub.heard)
        assert main(asked) == 0 and len(stub.heard) == count
    assert capsys.readouterr().out == first
    found = json.loads(Path("s.json").read_text())
    assert 90 < found["request_rate"] <= 100 and len(found["tried"]) > 3
    assert f"the highest rate with 0.99 of the requests within their targets: {found['request_rate']:.4g} requests/s" in first


def test_a_sweep_whose_client_fell_behind_says_so(monkeypatch, capsys):
    monkeypatch.setattr("muxjax.bench.lag.LIMIT_S", 1e-9)
    monkeypatch.setattr("muxjax.bench.lag.LIMIT_FRAC", 0.0)
    with serving(Stub()) as url:
        assert main(["bench", "sweep", "--base-url", url, *FEW, "--most-scale", "1"]) == serve.INVALID
    assert "INVALID: the client fell behind at that rate" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_measured_is_kept_at_ctrl_c(number):
    """In a process of its own, which a signal ends."""
    with serving(stub := Stub()) as url:
        asked = ["bench", "serve", "--base-url", url, *FEW, "--rate", "20", "--num-prompts", "1000", "--records", "r.jsonl"]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        with subprocess.Popen(
            [sys.executable, "-m", "muxjax", *asked], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as bench:
            while bench.poll() is None and len(stub.heard) < 20:  # some of which have been answered by then
                time.sleep(0.05)
            bench.send_signal(number)
            said, complained = bench.communicate(timeout=60)
    (run,) = read_runs(Path("r.jsonl"))
    assert bench.returncode == 130, complained
    assert "INCOMPLETE" in said and "Serving Benchmark Result" in said and "Traceback" not in complained
    assert 0 < len(run.records) < 1000 and run.end is not None and not run.complete


def test_what_was_measured_is_told_when_a_seed_cannot_be_asked(capsys):
    Path("t-0.jsonl").write_text('{"muxjax_trace": 1}\n{"time_s": 0.0, "model": "a", "prompt_tokens": 4, "output_tokens": 2}\n')
    with serving(Stub()) as url:
        asked = ["bench", "serve", "--base-url", url, "--trace", "t-{seed}.jsonl", "--seeds", "0", "5", "--warmup", "0"]
        assert main([*asked, "--json", "r.json"]) == 2
    said, complained = capsys.readouterr()
    assert re.search(r"Successful requests: +1 ", said) and "INCOMPLETE" in said and "t-5.jsonl cannot be read" in complained
    assert not json.loads(Path("r.json").read_text())["complete"]


def test_what_a_sweep_has_measured_is_told_when_the_server_is_gone(monkeypatch, capsys):
    run = Session.run

    def once(self: Session, scale: float, seed: int) -> Run:
        if self.runs:
            raise ConfigError("no server any more")
        return run(self, scale, seed)

    monkeypatch.setattr(Session, "run", once)
    with serving(Stub()) as url:
        assert main(["bench", "sweep", "--base-url", url, *FEW, "--e2e", "5"]) == 2
    said, complained = capsys.readouterr()
    assert re.search(r"\n50 +100.00%", said) and "INCOMPLETE: the search was ended early" in said and "no server any more" in complained


def test_a_full_disk_is_told_with_the_file(capsys):
    with serving(Stub()) as url:
        assert main(["bench", "serve", "--base-url", url, *FEW, "--records", "/dev/full"]) == 2
    assert "muxjax: /dev/full: No space left on device" in capsys.readouterr().err


def test_models_are_listed_as_they_are_asked_by_no_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", NO)
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(Stub()) as url:
        assert main(["bench", "serve", "--base-url", url, *FEW]) == 0


NO = "http://127.0.0.1:9"
WRONG = {
    "nobody listens": (["--base-url", NO, "--model", "m"], "no server at http://127.0.0.1:9"),
    "nobody lists models": (["--base-url", NO], "no server at http://127.0.0.1:9/v1"),
    "no url": (["--base-url", "a"], "the address must begin with http"),
    "no url of a model": (["--model", "a=b"], "the address must begin with http"),
    "no name": (["--model", "=http://a"], "model must be NAME or NAME=URL"),
    "twice": (["--model", "a", "--model", "a"], "model must be named once"),
    "key": (["--api-key", "ä", "--model", "m"], "the key that was given must be printable"),
    "two sources": (["--workload", "burst", "--dataset", "d"], "dataset must be left out beside workload"),
    "format": (["--format", "azure"], "left out where no trace is given"),
    "no such format": (["--format", "x"], "format must be one of"),
    "no such workload": (["--workload", "x"], "workload must be one of"),
    "no such dataset": (["--model", "m", "--dataset", "none"], "none cannot be read"),
    "rate": (["--rate", "0"], "rate must be over 0"),
    "burstiness": (["--burstiness", "nan"], "burstiness must be"),
    "both": (["--num-prompts", "3", "--duration", "3"], "left out beside num_prompts"),
    "none": (["--model", "m", "--num-prompts", "0"], "num_prompts must be 1"),
    "duration of inf": (["--rate", "inf", "--duration", "3"], "all come at once"),
    "chat of tokens": (["--model", "m", "--endpoint", "chat"], "endpoint must be completions"),
    "endpoint": (["--endpoint", "x"], "endpoint must be completions or chat"),
    "ids": (["--model", "m", "--prompt-ids-below", "3"], "prompt_ids_below must be"),
    "seeds": (["--seeds", "1", "1"], "seeds must be"),
    "negative seed": (["--seeds", "-1"], "seeds must be 0 or more"),
    "folder": (["--records", "no/r.jsonl"], "records must be in a folder that exists"),
    "records": (["--records", ".", "--model", "m"], "cannot be written: Is a directory"),
    "prompts": (["--model", "m", "--trace", "long.jsonl"], "prompt_tokens must be at most 262144; --max-model-len cuts"),
    "target": (["--ttft", "0"], "ttft_s must be over 0"),
    "strangers": (["--workload", "burst", "--model", "a"], "model must be among a; --rename"),
    "json": (["--json", "notes.txt", "--model", "m"], "holds something else"),
}


@pytest.mark.parametrize("flags, said", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_in_one_line(flags, said, capsys):
    Path("notes.txt").write_text("what a user would miss")
    Path("long.jsonl").write_text('{"muxjax_trace": 1}\n{"time_s": 0, "model": "m", "prompt_tokens": 600000, "output_tokens": 1}\n')
    assert main(["bench", "serve", *flags]) == 2
    told = capsys.readouterr().err
    assert said in told and len(told.splitlines()) == 1
    assert Path("notes.txt").read_text() == "what a user would miss"


def test_what_no_model_answers_is_told_before_anything_is_measured(capsys):
    with serving(Stub(wrong=lambda body: (404, '{"error": {"message": "no such model"}}'))) as url:
        assert main(["bench", "serve", "--base-url", url, *FEW, "--records", "r.jsonl"]) == 2
    assert "no such model" in capsys.readouterr().err and not Path("r.jsonl").exists()


@pytest.mark.parametrize("command", [["report"], ["plot", "-o", "p.png"]])
def test_files_without_runs_are_told(command, capsys):
    Path("r.jsonl").write_text("")
    assert main(["bench", command[0], "r.jsonl", *command[1:]]) == 2
    assert main(["bench", command[0], "none.jsonl", *command[1:]]) == 2
    assert "holds no run" in (said := capsys.readouterr().err) and "none.jsonl cannot be read" in said


def test_a_sweep_needs_something_to_hold_answers_against(capsys):
    assert main(["bench", "sweep", "--model", "m", "--warmup", "0"]) == 2
    assert main(["bench", "sweep", "--model", "m", "--rate", "inf"]) == 2
    assert main(["bench", "sweep", "--model", "m", "--least", "0"]) == 2
    assert capsys.readouterr().err.count("must be") == 3
