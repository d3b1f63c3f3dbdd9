"""More clients than the process may have files: they wait, every one is answered, and nothing else wants for a file."""

import json
import resource
import socket
import subprocess
import sys
import time

import pytest

from muxjax.server.net import open_files

PROGRAM = """
import asyncio, resource, sys
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.http.serve import serve
from muxjax.server.service import Service
from muxjax.server.telemetry import logs
from muxjax.server.text.tokenizer import ByteTokenizer
from tests.fakes import FakeEngine
from tests.server.kit import served

class NeedsFiles(FakeEngine):
    def submit(self, request, **options):
        files = [open("/dev/urandom", "rb") for _ in range(8)]  # as the first launch of a program does
        for file in files:
            file.close()
        super().submit(request, **options)

resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, MOST_FILES))
logs.configure("info", "text")
models = ["a", "b", "c"]
service = Service(NeedsFiles(models), Catalog([served(ByteTokenizer(300), name) for name in models]))
options = HttpOptions(port=0, max_connections=MOST_CONNECTIONS, shutdown_timeout_s=1)
asyncio.run(serve(service, options, report=lambda line: print(line, flush=True)))
"""
CROWD, LIMIT = 300, 96
WAIT_S = 120.0


def request(model: str, *, last: bool = False) -> bytes:
    body = json.dumps({"model": model, "prompt": [5], "max_tokens": 1}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n" + "Connection: close\r\n" * last + "\r\n"
    return head.encode() + body


def status(client: socket.socket) -> int:
    return int(client.recv(65536).split()[1])


@pytest.fixture
def server(request):
    """Of at most so many connections, where a test says so."""
    program = PROGRAM.replace("MOST_FILES", str(LIMIT)).replace("MOST_CONNECTIONS", str(getattr(request, "param", None)))
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process, int(process.stdout.readline().rsplit(":", 1)[1].split("/")[0])
    finally:
        process.kill()
        process.communicate()


def test_a_crowd_larger_than_the_limit_of_open_files_is_answered_to_the_last(server):
    process, port = server
    clients = [socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) for _ in range(CROWD)]
    try:
        for i, client in enumerate(clients):
            client.sendall(request("abc"[i % 3]))  # kept alive, were it not for the others
        assert [status(client) for client in clients] == [200] * CROWD
        for model in "abc":
            with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as one:
                one.sendall(request(model, last=True))
                assert status(one) == 200
    finally:
        for client in clients:
            client.close()
    process.terminate()
    log = process.communicate(timeout=WAIT_S)[1]
    assert log.count("connections wait") == 1 and "Too many open files" not in log and "Traceback" not in log


def test_clients_that_only_hold_connections_keep_nobody_from_what_is_answered(server):
    """There is a place again as soon as one of them leaves."""
    _, port = server
    idle = [socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) for _ in range(LIMIT)]
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as one:
        one.sendall(request("a"))
        time.sleep(0.3)
        for client in idle:
            client.close()
        assert status(one) == 200


@pytest.mark.parametrize("server", [8], indirect=True)
def test_a_crowd_that_takes_the_last_place_leaves_some_to_whoever_comes_later(server):
    """They come together and would all be kept alive: then nobody else got in before their connections end, a minute later."""
    _, port = server
    clients = [socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) for _ in range(8)]
    for client in clients:
        client.sendall(request("a"))
    assert [status(client) for client in clients] == [200] * 8
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S / 4) as one:
        one.sendall(request("b"))
        assert status(one) == 200
    for client in clients:
        client.close()


def test_the_soft_limit_is_raised_to_the_hard_one():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
    try:
        open_files.raise_limit()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft == min(hard, 2**20) and hard == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_connections_leave_files_to_the_process(monkeypatch):
    monkeypatch.setattr(open_files, "_open_files", lambda: 40)
    for soft, room in ((1024, 1024 - 40 - 64), (96, 28), (41, 1)):
        monkeypatch.setattr(open_files.resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert open_files.connections(None) == room
        assert open_files.connections(10**6) == room
        assert open_files.connections(1) == 1
