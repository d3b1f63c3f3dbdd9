"""Wrong inputs of every command, made by rules: each ends at once, in one line that says what is wrong, and status 2."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from muxjax.__main__ import main
from muxjax.commands import serve_flags
from muxjax.server import build

MOST_S = 10
"""Of an input, on a machine with other things to do; the endless ones took minutes."""
PROBLEM = "cluster: {chip: H200, nodes: 1, devices_per_node: 1}\nmodels:\n  - {name: a, shape: llama-3.2-1b, rate: 1}\n"
PLACEMENT = {
    "muxjax_placement": 1,
    "units": [{"devices": 1, "members": [{"model": "a", "rate_rps": 1.0, "devices": [0], "sm_share": 1.0}]}],
}
MODEL = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 1}
MODEL |= {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 64, "rms_norm_eps": 1e-5}

NO_NUMBER = ["x", "", "nan", "1e999", "-1", "9" * 5000, "1\n2", "\0", "٣x"]
NO_COUNT = [*NO_NUMBER, "1.5", str(2**70), "0"]
NO_NAME = ["", "x", "\0", "a\nb", "x" * 5000, "ключ"]
NO_FILE = ["", "/no/folder/here", "a\0b", "x" * 5000, "/dev/zero", ".", "problem.yaml/x"]
NO_TARGET = ["", ".", "/no/folder/o.json", "a\0b", "x" * 5000, "problem.yaml/o.json", "/proc/o.json", "problem.yaml", "notes.txt"]
NO_HOST = ["", "\0", "a\nb", "x" * 5000, "a\tb"]
NO_KEY = ["", " ", "\0", "a\nb", " a"]
NO_URL = [
    "",
    "x",
    "ftp://x",
    "http://",
    "http://[::1",
    "http://h:x",
    "http://h:99999",
    "http://a b",
    "http://a\n",
    "http://é",
    "http://" + "x" * 300,
]
NO_SIZE = ["x", "", "0", "-1", "1e9", "nan", "9" * 400, "9" * 20 + "T", "\0", "1XB"]

NO_VALUES = {
    "a list": "[[1]]",
    "keys": "{a: {b: 1}}",
    "nothing": "",
    "a date that is none": "2026-13-41",
    "a tag": "!!int x",
    "a NUL": '"a\\0b"',
}
"""YAML that no option takes."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Good inputs of every command, in the current folder; whatever wants to load a model has found nothing wrong."""
    monkeypatch.chdir(tmp_path)
    for variable in ("MUXJAX_API_KEY", "MUXJAX_ADMIN_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    Path("problem.yaml").write_text(PROBLEM)
    Path("placement.json").write_text(json.dumps(PLACEMENT))
    Path("notes.txt").write_text("what a user would miss")
    Path("in.jsonl").write_text("{}\n")
    Path("model").mkdir()
    Path("model/config.json").write_text(json.dumps(MODEL))

    def load(*args, **kwargs):
        raise AssertionError("nothing was found to be wrong")

    monkeypatch.setattr(build, "build_service", load)
    monkeypatch.setattr("muxjax.commands.run_batch.build_service", load)
    return tmp_path


class Endless(BaseException):
    """What takes longer than it may."""


def fails(capsys, *arguments: str, status: int = 2) -> str:
    """The one line that a command ends with, in time, having changed no file."""

    def stop(*_):
        raise Endless(f"not done in {MOST_S} s: {arguments!r:.300}")

    before = contents()
    handler = signal.signal(signal.SIGALRM, stop)
    signal.alarm(MOST_S)
    try:
        ended = main(arguments)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
    told = capsys.readouterr()
    assert ended == status, (arguments, told)
    assert told.err.count("\n") == 1 and told.err.startswith("muxjax: ") and len(told.err) < 2100, told.err
    assert not told.out
    assert contents() == before
    return told.err


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


SIMULATE, PLACE = ("simulate", "problem.yaml", "placement.json"), ("place", "problem.yaml")
SERVE, BATCH = ("serve", "a=model"), ("run-batch", "a=model", "-i", "in.jsonl", "-o", "out.jsonl")
PROFILE = ("profile", "llama-3.2-1b", "-o", "costs.json")
FLAGS = [
    (SIMULATE, "--duration", [*NO_NUMBER, "0", "1e12"]),
    (SIMULATE, "--drain", [*NO_NUMBER, "1e12"]),
    (SIMULATE, "--rate-scale", [*NO_NUMBER, "0", "1e-9", "1e9"]),
    (SIMULATE, "--seed", [*NO_NUMBER, "1.5"]),
    (SIMULATE, "--policy", NO_NAME),
    (SIMULATE, "--format", [*NO_NAME, "azure"]),
    (SIMULATE, "--workload", [*NO_NAME, "powerlaw-0", "powerlaw-99999"]),
    (SIMULATE, "--rename", [*NO_NAME, "=b", "a="]),
    (SIMULATE, "--max-model-len", NO_COUNT),
    (SIMULATE, "--goodput", [*NO_NUMBER, "1.5"]),
    (SIMULATE, "--slo-scale", [*NO_NUMBER, "0", "1e9"]),
    (SIMULATE, "--processes", NO_COUNT),
    (SIMULATE, "--costs", NO_FILE),
    (SIMULATE, "--trace", NO_FILE),
    (SIMULATE, "--json", NO_TARGET),
    (SIMULATE, "--plot", [*NO_TARGET, "o.pdf"]),
    (PLACE, "--costs", NO_FILE),
    (PLACE, "-o", NO_TARGET),
    (PROFILE, "--tp", NO_COUNT),
    (PROFILE, "--decode-batch", NO_COUNT),
    (PROFILE, "--decode-context", NO_COUNT),
    (PROFILE, "--prefill-tokens", NO_COUNT),
    (PROFILE, "-o", NO_TARGET),
    (("chat",), "--url", NO_URL),
    (("demo",), "--port", [*NO_NUMBER, "1.5", "65536"]),
    (("demo",), "--policy", NO_NAME),
    (("demo", "--train"), "--minutes", [*NO_NUMBER, "0"]),
    (("demo", "--train"), "--model", NO_NAME),
    (BATCH, "--max-inflight", NO_COUNT),
    (BATCH, "-i", [*NO_FILE[:4], ".", "in.jsonl/x"]),
    (BATCH, "-o", ["", ".", "/no/folder/o.jsonl", "a\0b", "x" * 5000, "in.jsonl/o", "in.jsonl", "notes.txt"]),
    (SERVE, "--port", [*NO_NUMBER, "1.5", "65536"]),
    (SERVE, "--admin-port", [*NO_NUMBER, "1.5", "65536"]),
    (SERVE, "--host", NO_HOST),
    (SERVE, "--admin-host", NO_HOST),
    (SERVE, "--api-key", NO_KEY),
    (SERVE, "--admin-key", NO_KEY),
    (SERVE, "--kv-cache-size", NO_SIZE),
    (SERVE, "--memory-size", NO_SIZE),
    (SERVE, "--log-level", NO_NAME),
    (SERVE, "--dtype", NO_NAME),
    (SERVE, "--load-format", NO_NAME),
    (SERVE, "--policy", NO_NAME),
    (SERVE, "--max-num-seqs", NO_COUNT),
    (SERVE, "--max-model-len", NO_COUNT),
    (SERVE, "--max-num-batched-tokens", NO_COUNT),
    (SERVE, "--tensor-parallel-size", NO_COUNT),
    (SERVE, "--gpu-memory-fraction", [*NO_NUMBER, "0", "1.1"]),
    (SERVE, "--step-timeout", [*NO_NUMBER, "0"]),
    (SERVE, "--otel", NO_NAME),
]


@pytest.mark.parametrize(("command", "flag", "values"), FLAGS, ids=[f"{command[0]}-{flag}" for command, flag, _ in FLAGS])
def test_a_wrong_value_of_a_flag_is_told_in_one_line(folder, capsys, command, flag, values):
    for value in values:
        told = fails(capsys, *command, f"{flag}={value}" if flag.startswith("--") else flag, *([] if flag.startswith("--") else [value]))
        assert len(told) > 20


POSITIONS = {
    "place": (("place", "{}"), NO_FILE),
    "the problem of simulate": (("simulate", "{}", "placement.json"), NO_FILE),
    "the placement": (("simulate", "problem.yaml", "{}"), NO_FILE),
    "profile": (("profile", "{}", "-o", "o.json"), NO_FILE),
    "the source of convert": (("convert", "{}", "new"), NO_FILE),
    "the destination of convert": (("convert", "model", "{}"), ["", "problem.yaml", "model", "a\0b", "x" * 5000, "problem.yaml/x"]),
    "the configuration of serve": (("serve", "{}"), [*NO_FILE, "a=", "=b", "="]),
    "a folder of serve": (("serve", "a={}"), ["", "a\0b"]),
    "an unknown command": (("{}",), ["x", "", "\0", "x" * 5000]),
    "an unknown flag": (("place", "problem.yaml", "--{}"), ["x", "x" * 5000, "é", "a\nb"]),
}


@pytest.mark.parametrize(("command", "values"), POSITIONS.values(), ids=POSITIONS)
def test_a_wrong_argument_is_told_in_one_line(folder, capsys, command, values):
    for value in values:
        fails(capsys, *(part.replace("{}", value) for part in command))


def yaml_of(**fields: str) -> str:
    return "\n".join(f"{name}: {value}" for name, value in fields.items()) + "\n"


DEMAND = {"name": "a", "shape": "llama-3.2-1b", "rate": "1"}
PROBLEMS = {
    "name": [*NO_VALUES.values()],
    "shape": [*NO_VALUES.values(), "gpt-17"],
    "path": [*NO_VALUES.values(), "here"],
    "rate": [*NO_VALUES.values(), "0", "-1", ".nan", ".inf", "1e300", "true", "0x" + "f" * 4000],
    "lengths": [*NO_VALUES.values(), "nobody"],
    "prompt_tokens": [*list(NO_VALUES.values())[:2], "0", "-1", ".inf", "1e300", "x"],
    "ttft": ["0", "-1", ".inf", "x", "[1]"],
    "unknown": ["1"],
}


@pytest.mark.parametrize("field", PROBLEMS)
def test_a_wrong_value_of_a_problem_is_told_in_one_line(folder, capsys, field):
    for value in PROBLEMS[field]:
        demand = {name: text for name, text in DEMAND.items() if not (field == "path" and name == "shape")} | {field: value}
        Path("problem.yaml").write_text("models:\n- " + yaml_of(**demand).replace("\n", "\n  "))
        assert "problem.yaml:" in fails(capsys, *PLACE)


CLUSTERS = {
    "nodes": ["0", "-1", "1.5", "100000000", "x", "[1]", ".nan", "true"],
    "devices_per_node": ["0", "-1", "1.5", "100000000", "x", ".inf"],
    "chip": ["x", "[1]", "", "1"],
}


@pytest.mark.parametrize("field", CLUSTERS)
def test_a_wrong_cluster_is_told_in_one_line(folder, capsys, field):
    for value in CLUSTERS[field]:
        Path("problem.yaml").write_text(f"cluster: {{{field}: {value}}}\nmodels:\n  - {{name: a, shape: llama-3.2-1b, rate: 1}}\n")
        assert field in fails(capsys, *PLACE)


@pytest.mark.parametrize("field", ["max_batch", "memory_frac", "fairness"])
def test_a_wrong_limit_of_a_problem_is_told_in_one_line(folder, capsys, field):
    for value in ("0", "-1", "x", "[1]", ".nan", *(["1e12", "1.5", str(2**70)] if field == "max_batch" else [])):
        Path("problem.yaml").write_text(f"{PROBLEM}{field}: {value}\n")
        assert field in fails(capsys, *PLACE)


DOCUMENTS = {
    "empty": "",
    "a word": "x",
    "a list": "[1, 2]",
    "a control character": "a: \x01",
    "not closed": "a: [",
    "two documents": "a: 1\n---\nb: 2\n",
    "nested deep": "a: " + "[" * 5000 + "]" * 5000,
    "keys nested deep": "{a: " * 3000 + "1" + "}" * 3000,
    "models nested deep": "models: " + "[" * 3000 + "]" * 3000,
    "a thousand million of laughs": "a: &a [x, x]\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(25)),
    "a list that holds itself": "models: &a [*a]",
    "a key that is a list": "? [a]\n: 1\nmodels: []\n",
    "a key given twice": "models: []\nmodels: []\n",
    "too large": "#" * 2**20 + "\nmodels: []",
    "models that are none": "models: {a: b}",
    "no models": "models: []",
    "models that are words": "models: [a, b]",
    "a long unknown key": "x" * 20000 + ": 1\nmodels: []",
}


@pytest.mark.parametrize("command", [PLACE, ("serve", "problem.yaml"), ("run-batch", "problem.yaml", "-i", "in.jsonl", "-o", "o.jsonl")])
@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS)
def test_yaml_that_is_no_configuration_is_told_in_one_line(folder, capsys, command, text):
    Path("problem.yaml").write_text(text)
    assert "models" in (told := fails(capsys, *command)) or "problem.yaml" in told


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\0", b"\x89PNG\r\n", bytes(range(256))])
def test_bytes_that_are_no_text_are_told_in_one_line(folder, capsys, data):
    for name, command in (("problem.yaml", PLACE), ("problem.yaml", ("serve", "problem.yaml")), ("placement.json", SIMULATE)):
        good = Path(name).read_bytes()
        Path(name).write_bytes(data)
        assert name in fails(capsys, *command)
        Path(name).write_bytes(good)


SERVED = {
    "port": [*NO_VALUES.values(), "70000", "1.5", "true"],
    "api_keys": [*NO_VALUES.values(), "[]x", "secret", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
    "kv_cache_size": [*list(NO_VALUES.values())[:2], "0", "-1", "9e99"],
    "max_num_batched_tokens": [*NO_VALUES.values(), "1", "16.5", str(2**70)],
    "trace": [*list(NO_VALUES.values())[:2], '"a\\0b"', "true"],
    "policy": [*NO_VALUES.values(), "best"],
    "allowed_origins": [*NO_VALUES.values()],
    "read_timeout": [*NO_VALUES.values(), "0", ".inf"],
    "otel": [*NO_VALUES.values(), "1", "maybe"],
    "tenants": [*NO_VALUES.values(), "[{name: a}]", "[{name: a, api_keys: []}]", "[{api_keys: []}]", "[{name: a, weight: 0}]", "[1]"],
}


@pytest.mark.parametrize("field", SERVED)
def test_a_wrong_option_of_a_server_is_told_in_one_line(folder, capsys, field):
    for value in SERVED[field]:
        Path("serve.yaml").write_text(f"models: [{{name: a, path: model}}]\n{field}: {value}\n")
        told = fails(capsys, "serve", "serve.yaml").replace("-", "_")
        assert field in told or "serve.yaml:2: " in told


SERVED_MODEL = {
    "name": [*NO_VALUES.values()],
    "path": [*list(NO_VALUES.values())[:3], '"a\\0b"'],
    "aliases": [*NO_VALUES.values(), "[a]", "[b, b]"],
    "max_model_len": ["1", "1.5", "-1", "x", "[1]", str(2**70)],
    "max_num_seqs": [*NO_VALUES.values(), "0", "5000", "1.5"],
    "rate": [*NO_VALUES.values(), "0", ".inf"],
    "enforce": ["true", "[1]", "1"],
    "chat_template": [*list(NO_VALUES.values())[:2], '"a\\0b"'],
}


@pytest.mark.parametrize("field", SERVED_MODEL)
def test_a_wrong_option_of_a_model_is_told_in_one_line(folder, capsys, field):
    for value in SERVED_MODEL[field]:
        options = {"name": "a", "path": "model"} | {field: value}
        Path("serve.yaml").write_text("models:\n- " + yaml_of(**options).replace("\n", "\n  "))
        fails(capsys, "serve", "serve.yaml")


PLACEMENTS = {
    "deep": "[" * 100_000,
    "an object that is deep": '{"a":' * 100_000,
    "a list": "[]",
    "another version": json.dumps(PLACEMENT | {"muxjax_placement": 2}),
    "no units": json.dumps(PLACEMENT | {"units": []}),
    "units that are none": json.dumps(PLACEMENT | {"units": 3}),
    "a number without an end": '{"muxjax_placement": ' + "1" * 5000 + "}",
    "devices without an end": json.dumps(PLACEMENT).replace('"devices": 1', '"devices": 1000000000000'),
    "no devices": json.dumps(PLACEMENT).replace('"devices": 1', '"devices": 0'),
    "a device below none": json.dumps(PLACEMENT).replace("[0]", "[-1]"),
    "another model": json.dumps(PLACEMENT).replace('"a"', '"b"'),
    "a rate that is none": json.dumps(PLACEMENT).replace("1.0", "NaN"),
    "a rate without an end": json.dumps(PLACEMENT).replace("1.0", "1e999"),
}


@pytest.mark.parametrize("text", PLACEMENTS.values(), ids=PLACEMENTS)
def test_a_wrong_placement_is_told_in_one_line(folder, capsys, text):
    Path("placement.json").write_text(text)
    fails(capsys, *SIMULATE)


TRACES = {
    "deep": "[" * 100_000,
    "no header": json.dumps({"time_s": 0}),
    "nothing": "",
    "no request": '{"muxjax_trace": 1}\n',
    "a list": "[]",
    "a value of another kind": '{"muxjax_trace": 1}\n{"time_s": [], "model": "a", "prompt_tokens": 1, "output_tokens": 1}',
    "another model": '{"muxjax_trace": 1}\n{"time_s": 0, "model": "b", "prompt_tokens": 1, "output_tokens": 1}',
}


@pytest.mark.parametrize("form", ["muxjax", "azure", "burst-gpt", "mooncake"])
@pytest.mark.parametrize("text", TRACES.values(), ids=TRACES)
def test_a_wrong_trace_is_told_in_one_line(folder, capsys, form, text):
    Path("trace").write_text(text)
    fails(capsys, *SIMULATE, "--trace", "trace", "--format", form)


def test_costs_that_are_none_are_told_in_one_line(folder, capsys):
    for text in ("[" * 100_000, "{}", "[]", "1" * 5000, '{"version": 1}'):
        Path("costs.json").write_text(text)
        assert "table" in fails(capsys, *PLACE, "--costs", "costs.json")


def test_more_requests_than_memory_holds_are_refused_with_the_limit(folder, capsys):
    assert "at most 10000000 requests are drawn" in fails(capsys, *SIMULATE, "--duration", "1e8")


def test_a_key_given_twice_is_told_with_both_lines(folder, capsys):
    Path("serve.yaml").write_text("port: 1\nkv-cache-size: 1MiB\nmodels: [{name: a, path: model}]\nkv_cache_bytes: 2MiB\n")
    assert "serve.yaml:4: kv_cache_bytes is given twice, and stands in line 2 already" in fails(capsys, "serve", "serve.yaml")


def test_every_key_of_the_environment_is_one(folder, capsys, monkeypatch):
    monkeypatch.setattr(serve_flags.secrets, "__defaults__", ({"MUXJAX_API_KEY": ""},))
    assert "MUXJAX_API_KEY must be a key that is not empty" in fails(capsys, *SERVE)


def test_a_wrong_key_is_not_told(folder, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sesame\nopen")
    assert "sesame" not in fails(capsys, "chat", "--url", "http://127.0.0.1:9")
    assert "sesame" not in fails(capsys, *SERVE, "--api-key", "sesame\nopen")


REPLIES = [b"", b"[" * 100_000, b'{"data": 3}', b'{"data": []}', b"\xff", b'{"data": [1]}']


@pytest.mark.parametrize("body", REPLIES, ids=range(len(REPLIES)))
def test_a_server_that_is_none_of_ours_is_told_in_one_line(folder, capsys, body):
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=reply, args=(server, body), daemon=True).start()
        fails(capsys, "chat", "--url", f"http://127.0.0.1:{server.getsockname()[1]}/v1")


def reply(server: socket.socket, body: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (KeyboardInterrupt(), 130, "muxjax: interrupted\n"),
        (PermissionError(13, "Permission denied", "/a/b"), 2, "muxjax: /a/b: Permission denied\n"),
        (MemoryError(), 2, "muxjax: out of memory\n"),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_what_ends_a_command_is_a_line_and_a_status(folder, capsys, monkeypatch, error, status, told):
    def run(*args, **kwargs):
        raise error

    monkeypatch.setattr("muxjax.commands.place.run", run)
    assert main(PLACE) == status
    assert capsys.readouterr().err == told


def test_an_output_that_nobody_reads_or_that_is_full_ends_without_a_traceback(folder):
    program = [sys.executable, "-m", "muxjax", *PLACE]
    environment = os.environ | {"PYTHONPATH": str(Path(build.__file__).parents[2])}
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE, env=environment, timeout=120)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")
    with open("/dev/full", "w") as full:
        ended = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, env=environment, timeout=120)
    assert (ended.returncode, ended.stderr) == (2, b"muxjax: No space left on device\n")
