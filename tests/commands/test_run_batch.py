import asyncio
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.__main__ import main
from muxjax.commands.batch.answers import WINDOW, in_order
from muxjax.commands.batch.file import MOST_LINE_BYTES, count_lines, read_requests
from muxjax.commands.batch.run_batch import Options, opened, run_through
from muxjax.errors import ConfigError, MuxError, RequestError
from muxjax.server.catalog import Catalog
from muxjax.server.service import Service
from muxjax.server.text.tokenizer import ByteTokenizer
from muxjax.types import Pooling
from tests.fakes import FakeEngine
from tests.server.kit import served

PROGRAM = """
import sys
from muxjax.commands.batch.run_batch import Options, opened, run_through
from tests.commands.test_run_batch import service
with opened(Options(input_file=sys.argv[1], output_file=sys.argv[2], resume=True)) as batch:
    sys.exit(run_through(service(turn_s=0.002), batch, most_open=5))
"""


def service(**engine) -> Service:
    return Service(
        FakeEngine(["a", "b"], **engine), Catalog([served(ByteTokenizer(300), name, pooling=Pooling.LAST) for name in ("a", "b")])
    )


def ask(custom_id: str = "x", *, url: str = "/v1/completions", **body) -> dict:
    usual = {"model": "a", "max_tokens": 3} | ({"prompt": custom_id} if url == "/v1/completions" else {})
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": usual | body}


def chat(custom_id: str, **body) -> dict:
    return ask(custom_id, url="/v1/chat/completions", **({"messages": [{"role": "user", "content": "hi"}]} | body))


def written(path: Path, lines: list) -> Path:
    path.write_bytes(b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines))
    return path


def answers(folder: Path, lines: list, *, resume: bool = False, most_open: int = 4, **engine) -> tuple[int, list[dict]]:
    """The exit code, and the output's lines."""
    source, sink = written(folder / "in.jsonl", lines), folder / "out.jsonl"
    with opened(Options(input_file=str(source), output_file=str(sink), resume=resume)) as batch:
        code = run_through(service(**engine), batch, most_open=most_open)
    return code, [json.loads(line) for line in sink.read_text().splitlines()]


def test_lines_of_different_models_and_endpoints_are_answered_in_order(tmp_path):
    code, told = answers(tmp_path, [ask("long", max_tokens=60), chat("talk", model="b"), ask("short", max_tokens=1), ask("two", n=2)])

    assert code == 0
    assert [line["custom_id"] for line in told] == ["long", "talk", "short", "two"]
    assert [line["response"]["body"]["object"] for line in told] == ["text_completion", "chat.completion"] + ["text_completion"] * 2
    assert [line["response"]["body"]["model"] for line in told] == ["a", "b", "a", "a"]
    assert told[0]["response"]["body"]["choices"][0]["text"] == "long" * 15
    assert [len(line["response"]["body"]["choices"]) for line in told] == [1, 1, 1, 2]
    assert all(line["error"] is None and line["response"]["status_code"] == 200 for line in told)
    assert len({line["id"] for line in told}) == 4


def test_embeddings_are_answered_too_and_their_prompts_counted(tmp_path, capsys):
    line = {"custom_id": "e", "method": "POST", "url": "/v1/embeddings", "body": {"model": "a", "input": ["cat", "dog"], "dimensions": 3}}
    code, (told, other) = answers(tmp_path, [line, ask("after")])
    body = told["response"]["body"]
    assert (code, body["object"], [len(entry["embedding"]) for entry in body["data"]]) == (0, "list", [3, 3])
    assert body["usage"] == {"prompt_tokens": 6, "total_tokens": 6} and other["error"] is None
    _, row, _ = capsys.readouterr().err.splitlines()[-3:]
    assert row.split()[:4] == ["a", "2", str(6 + len("after")), "3"]


BAD = {
    "no JSON": (b"{", None, "no JSON"),
    "NaN": (json.dumps(ask(temperature=float("nan"))).encode(), None, "NaN is no JSON number"),
    "not UTF-8": (b'{"custom_id": "\xff"}', None, "no JSON"),
    "nested too deep": (b"[" * 200_000, None, "no JSON"),
    "a list": ([1], None, "must be a JSON object, got list"),
    "no id": ({"method": "POST"}, "custom_id", "custom_id must be a string that is not empty, got None"),
    "a number as id": (ask() | {"custom_id": 5}, "custom_id", "got 5"),
    "another method": (ask() | {"method": "GET"}, "method", "must be \"POST\", got 'GET'"),
    "another url": (ask() | {"url": "/v1/images"}, "url", "must be one of /v1/completions, /v1/chat/completions, /v1/embeddings"),
    "a list as url": (ask() | {"url": []}, "url", "must be one of"),
    "no body": (ask() | {"body": None}, "body", "must be an object, got None"),
    "a stream": (ask(stream=True), "body.stream", "must be false"),
    "an unknown model": (ask(model="c"), "model", "The model `c` does not exist."),
    "a field out of range": (ask(temperature=9), "temperature", "must be 0 to 2, got 9"),
    "too long a prompt": (ask(prompt="x" * 200), "prompt", "maximum context length is 100 tokens"),
}


@pytest.mark.parametrize("line, param, message", BAD.values(), ids=BAD)
def test_a_bad_line_has_its_error_and_stops_nothing(tmp_path, line, param, message):
    code, told = answers(tmp_path, [ask("before"), line, ask("after")])

    assert code == 1
    assert [line["response"]["status_code"] for line in told] == [200, 404 if param == "model" else 400, 200]
    error = told[1]["response"]["body"]["error"]
    assert error["param"] == param
    assert message in error["message"] == told[1]["error"]["message"]
    assert isinstance(told[1]["error"]["code"], str)


def test_an_id_may_be_used_once(tmp_path):
    code, told = answers(tmp_path, [ask("x"), ask("y"), ask("x"), chat("y")])

    assert code == 1
    assert [line["custom_id"] for line in told] == ["x", "y", "x", "y"]
    assert [line["error"] and line["error"]["code"] for line in told] == [None, None, "duplicate_custom_id", "duplicate_custom_id"]


def test_a_line_that_is_too_long_is_read_over():
    requests = list(
        read_requests(io.BytesIO(b'{"a": "' + b"x" * (MOST_LINE_BYTES + 3 * 2**20) + b'"}\n\n' + json.dumps(ask("after")).encode()))
    )

    assert [one.custom_id for one in requests] == [None, "after"]
    assert requests[0].fault is not None and requests[0].fault.status == 413
    assert requests[1].fault is None


LINES = st.one_of(
    st.binary(max_size=50).map(lambda line: line.replace(b"\n", b" ")),
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.dictionaries(st.text(), inner)).map(
        lambda value: json.dumps(value).encode()
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "custom_id": st.sampled_from(["x", "y", "", None, 3]),
            "method": st.sampled_from(["POST", "post", None]),
            "url": st.sampled_from(["/v1/completions", "/v1/chat/completions", "/", {}]),
            "body": st.sampled_from([{}, [], {"model": "a", "prompt": "x", "max_tokens": 1}, {"model": "b", "prompt": {}}]),
        },
    ).map(lambda value: json.dumps(value).encode()),
)


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(LINES, max_size=6))
def test_whatever_the_lines_hold_each_has_one_answer(tmp_path_factory, lines):
    kept = [line for line in lines if line.strip()]
    code, told = answers(tmp_path_factory.mktemp("batch"), lines, turn_s=0.0)

    assert len(told) == len(kept) == count_lines(io.BytesIO(b"\n".join(lines)))
    assert all((line["error"] is None) == (line["response"]["status_code"] == 200) for line in told)
    assert all(line["response"]["status_code"] < 500 for line in told)
    assert code == (1 if any(line["error"] for line in told) else 0)


def content(told: list[dict]) -> list:
    """What is the same in every run."""
    return [(line["custom_id"], line["error"], line["response"]["body"].get("choices")) for line in told]


def mixed(count: int) -> list:
    return [chat(f"{i}", model="b") if i % 3 == 0 else b"{" if i % 7 == 0 else ask(f"{i}", max_tokens=1 + i % 9) for i in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_that_is_killed_and_resumed_is_as_if_it_never_was(tmp_path, seed):
    draw = random.Random(seed)
    _, expected = answers(tmp_path, mixed(120), most_open=50)
    source, sink = tmp_path / "in.jsonl", tmp_path / "killed.jsonl"
    ended = []
    for last in (False, False, False, True):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, source, sink], stderr=subprocess.PIPE)
        if not last:
            wait_for_growth(sink, process)
            time.sleep(draw.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
            process.wait()
            tear(sink, draw)
        _, told = process.communicate()
        ended.append((process.returncode, told))

    assert ended[-1][0] == 1, ended[-1][1]
    assert content([json.loads(line) for line in sink.read_text().splitlines()]) == content(expected)


def wait_for_growth(path: Path, process: subprocess.Popen) -> None:
    """Until the process has begun to write, or has ended."""
    before = path.stat().st_size if path.exists() else 0
    while process.poll() is None and (not path.exists() or path.stat().st_size == before):
        time.sleep(0.005)


def tear(path: Path, draw: random.Random) -> None:
    """What a kill in the middle of a line leaves."""
    size = path.stat().st_size
    os.truncate(path, size - draw.randrange(min(size, 200) + 1))


def test_wherever_the_output_is_cut_off_a_resumed_run_completes_it(tmp_path):
    _, expected = answers(tmp_path, mixed(8), turn_s=0.0)
    whole = (tmp_path / "out.jsonl").read_bytes()
    for cut in range(0, len(whole) + 1, 37):
        (tmp_path / "out.jsonl").write_bytes(whole[:cut])
        code, told = answers(tmp_path, mixed(8), resume=True, turn_s=0.0)
        assert (code, content(told)) == (1, content(expected))
        kept = whole[:cut].count(b"\n")
        assert [line["id"] for line in told][:kept] == [line["id"] for line in map(json.loads, whole.splitlines())][:kept]


def test_answers_are_not_overwritten_unless_resumed(tmp_path):
    _, first = answers(tmp_path, [ask("x")])
    with pytest.raises(ConfigError, match="--resume"):
        answers(tmp_path, [ask("x")])
    assert answers(tmp_path, [ask("x")], resume=True) == (0, first)


class BusyEngine(FakeEngine):
    """Refuses every other request, for a moment."""

    def submit(self, request, **options):
        self.asked = getattr(self, "asked", 0) + 1
        if self.asked % 2:
            raise RequestError("The queue is full.", code="queue_full", status=503, retry_after_s=0.01)
        super().submit(request, **options)


def test_a_line_waits_while_the_queue_is_full(tmp_path):
    source, sink = written(tmp_path / "in.jsonl", [ask(f"{i}") for i in range(9)]), tmp_path / "out.jsonl"
    busy = Service(BusyEngine(["a"]), Catalog([served(ByteTokenizer(300), "a")]))

    with opened(Options(input_file=str(source), output_file=str(sink))) as batch:
        assert run_through(busy, batch, most_open=2) == 0
    assert [json.loads(line)["custom_id"] for line in sink.read_text().splitlines()] == [f"{i}" for i in range(9)]


class DyingEngine(FakeEngine):
    """Its thread ends without a word in the middle of the answer to "4"."""

    def _turn(self):
        if any(request.prompt[0] == ord("4") and made == 50 for request, made in self._live.values()):
            self.healthy, self._stopping = False, True
            return []
        return super()._turn()


def test_an_engine_that_dies_ends_the_batch_with_what_was_answered(tmp_path):
    lines = [ask(f"{i}", max_tokens=90) for i in range(9)]
    source, sink = written(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    broken = Service(DyingEngine(["a"], crowd=2), Catalog([served(ByteTokenizer(300), "a")]))

    with opened(Options(input_file=str(source), output_file=str(sink))) as batch, pytest.raises(MuxError, match="--resume goes on"):
        run_through(broken, batch, most_open=2)
    assert [json.loads(line)["custom_id"] for line in sink.read_text().splitlines()] == ["0", "1", "2", "3"]
    code, told = answers(tmp_path, lines, resume=True)
    assert (code, [line["custom_id"] for line in told]) == (0, [f"{i}" for i in range(9)])


class Counted:
    """Answers, and counts what is open and held. The first `crowd` wait for each other; the slow one until as much is held as may be."""

    def __init__(self, lines: int, *, crowd: int = 1, slow: int = -1):
        self.read = self.open = self.most_open = self.most_held = 0
        self.written: list[int] = []
        self._lines, self._crowd, self._slow = lines, crowd, slow

    def asks(self):
        for line in range(self._lines):
            self.read += 1
            self.most_held = max(self.most_held, self.read - len(self.written))
            yield line

    async def answer(self, line: int) -> int:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        while self.most_open < self._crowd or (line == self._slow and self.read - line < WINDOW * self._crowd):
            await asyncio.sleep(0)
        self.open -= 1
        return line


@pytest.mark.parametrize("slow", [0, 500])
def test_few_lines_are_held_however_many_there_are(slow):
    counted = Counted(3000, crowd=7, slow=slow)
    asyncio.run(in_order(counted.asks(), counted.answer, counted.written.append, most_open=7))

    assert counted.written == list(range(3000))
    assert counted.most_open == 7
    assert WINDOW * 7 <= counted.most_held <= WINDOW * 7 + 3


def test_what_fails_ends_everything():
    counted = Counted(3000)

    def write(line: int) -> None:
        counted.written.append(line)
        if line == 100:
            raise ConfigError("full")

    with pytest.raises(ConfigError, match="full"):
        asyncio.run(in_order(counted.asks(), counted.answer, write, most_open=7))
    assert counted.written == list(range(101))


def test_a_pipe_is_answered_while_it_is_open(tmp_path):
    program = PROGRAM.replace(", resume=True", "")
    process = subprocess.Popen([sys.executable, "-c", program, "-", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for custom_id in ("one", "two"):
        process.stdin.write(json.dumps(ask(custom_id)) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["custom_id"] == custom_id
    assert process.communicate()[0] == ""
    assert process.returncode == 0


def test_the_command_answers_with_real_programs(tmp_path, capsys):
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 1}
    config |= {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 64}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5, "torch_dtype": "float32"}))
    source = written(tmp_path / "in.jsonl", [ask(f"{i}", model="ab"[i % 2], ignore_eos=True) for i in range(20)])
    small = ["--load-format=dummy", "--kv-cache-size=1MiB", "--max-num-seqs=4", "--max-num-batched-tokens=64", "--compilation-cache-dir="]
    models = [f"{name}={tmp_path / name}" for name in ("a", "b")]

    assert main(["run-batch", "-i", str(source), "-o", str(tmp_path / "out.jsonl"), *models, *small]) == 0
    told = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["custom_id"] for line in told] == [f"{i}" for i in range(20)]
    assert all(line["response"]["body"]["usage"]["completion_tokens"] == 3 for line in told)
    assert "20 lines, 0 failed" in capsys.readouterr().err


def test_lines_tell_how_far_a_batch_is_where_no_bar_is_drawn(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("muxjax.progress.SAY_S", 0.0)
    answers(tmp_path, [ask("x")])
    answers(tmp_path, [ask("x"), ask("y"), ask("z")], resume=True)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("answering")]
    assert said == ["answering: 1", "answering: 1 of 1", "answering: 1 of 3", "answering: 2 of 3", "answering: 3 of 3"]


def test_a_missing_input_is_one_line_and_code_2(tmp_path, capsys):
    assert main(["run-batch", "-i", str(tmp_path / "no"), "-o", "-", f"a={tmp_path}"]) == 2
    assert capsys.readouterr().err == f"muxjax: {tmp_path / 'no'} cannot be opened: No such file or directory\n"
    assert not list(tmp_path.iterdir())
