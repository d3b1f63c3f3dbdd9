"""Wrong inputs of every command, made by rules: each ends at once, in one line that says what is wrong, and status 2."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from muxjax.__main__ import main
from muxjax.commands import serve_flags
from muxjax.server import build
from tests.commands.wrong import (
    BATCH,
    NO_COUNT,
    NO_FILE,
    NO_HOST,
    NO_KEY,
    NO_NAME,
    NO_NUMBER,
    NO_SIZE,
    NO_TARGET,
    NO_URL,
    PLACE,
    PROFILE,
    SERVE,
    SIMULATE,
    fails,
)

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
    (PLACE, "--time-limit", [*NO_NUMBER, "0", "1e9"]),
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
    (SERVE, "--kv-cache-dtype", [*NO_NAME, "fp8_e5m2"]),
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


def test_more_requests_than_memory_holds_are_refused_with_the_limit(folder, capsys):
    assert "at most 10000000 requests are drawn" in fails(capsys, *SIMULATE, "--duration", "1e8")


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
