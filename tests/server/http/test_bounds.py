"""Requests that are too large, and clients that are too slow."""

import contextlib
import json
import socket
import sys
import time
import urllib.parse

import pytest

from muxjax.server.background import in_background
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.http import body
from muxjax.server.service import Service
from tests.fakes import FakeEngine
from tests.server.kit import served

LONG = 10**6
WAIT_S = 120.0
STREAM = {"model": "a", "prompt": "the cat", "max_tokens": LONG, "n": 64, "stream": True, "ignore_eos": True}


@pytest.fixture
def serve(tokenizer):
    @contextlib.contextmanager
    def started(**options):
        engine = FakeEngine(["a"])
        service = Service(engine, Catalog([served(tokenizer, "a", max_model_len=2 * LONG)]))
        with in_background(service, HttpOptions(port=0, **options)) as url:
            yield engine, urllib.parse.urlsplit(url)

    return started


@contextlib.contextmanager
def connected(url, *, receive_bytes: int | None = None):
    with socket.socket() as client:
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.settimeout(WAIT_S)
        client.connect((url.hostname, url.port))
        yield client


def post(body: bytes, *, length: int | None = None, **headers: str) -> bytes:
    lines = ["POST /v1/completions HTTP/1.1", "Host: x", f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode() + body


def answer(client: socket.socket) -> bytes:
    """All that comes until the server closes the connection or is done."""
    received = b""
    with contextlib.suppress(TimeoutError, ConnectionResetError):
        while piece := client.recv(65536):
            received += piece
            if b"\r\n\r\n" in received and received.endswith(b"}"):
                break
    return received


def status(received: bytes) -> int:
    return int(received.split()[1])


SMALL = json.dumps({"model": "a", "prompt": "the", "max_tokens": 1}).encode()


@pytest.mark.parametrize("size, expected", [(15_000, 200), (17_000, 431), (70_000, 400)])
def test_a_head_has_a_largest_size(serve, size, expected):
    with serve() as (_, url), connected(url) as client:
        client.sendall(post(SMALL, Filler="x" * size))
        received = answer(client)
        assert status(received) == expected
        if expected == 431:
            assert b"headers_too_large" in received


def test_a_body_that_says_it_is_too_large_is_not_read(serve):
    with serve(max_body_bytes=1000) as (_, url), connected(url) as client:
        client.sendall(post(b"", length=1001))
        received = answer(client)
        assert (status(received), b"request_too_large" in received) == (413, True)


def test_a_body_that_only_turns_out_too_large_is_refused_too(serve):
    with serve(max_body_bytes=1000) as (_, url), connected(url) as client:
        head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.sendall(head + b"7d0\r\n" + b" " * 2000 + b"\r\n0\r\n\r\n")
        assert status(answer(client)) == 413


def test_a_body_that_does_not_come_is_not_waited_for(serve):
    with serve(read_timeout_s=0.2) as (engine, url), connected(url) as client:
        began_s = time.monotonic()
        client.sendall(post(SMALL[:10], length=len(SMALL)))
        received = answer(client)
        assert (status(received), b"request_timeout" in received) == (408, True)
        assert time.monotonic() - began_s < 30  # the default is a minute
        assert engine.submitted == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("pause_s", [0, 0.2])
def test_a_body_that_is_not_encoded_as_it_says_is_the_clients_error(serve, encoding, pause_s):
    with serve() as (engine, url), connected(url) as client:
        head, body = post(b"\x08nonsense", **{"Content-Encoding": encoding}).split(b"\r\n\r\n")
        client.sendall(head + b"\r\n\r\n")
        time.sleep(pause_s)
        client.sendall(body)
        assert status(answer(client)) == 400
        assert engine.submitted == []


@pytest.mark.parametrize("path", ["/health", "/nowhere"])
def test_a_body_that_nobody_reads_is_not_kept(serve, path, monkeypatch):
    kept: list[bytearray] = []
    monkeypatch.setattr(body, "bytearray", lambda: kept.append(bytearray()) or kept[-1], raising=False)
    with serve() as (_, url), connected(url) as client:
        client.sendall(post(SMALL).replace(b"/v1/completions", path.encode()))
        assert status(answer(client)) in (404, 405)
        assert wait_until(lambda: sys.getrefcount(kept[0]) == 2)  # the list's, and the call's
        assert bytes(kept[0]) == SMALL


def test_a_body_that_comes_in_pieces_is_waited_for(serve):
    with serve(read_timeout_s=WAIT_S) as (_, url), connected(url) as client:
        for piece in (post(SMALL)[:-10], SMALL[-10:]):
            client.sendall(piece)
            time.sleep(0.3)
        assert status(answer(client)) == 200


@pytest.mark.parametrize("head", [b"", b"POST /v1/comp"])
def test_a_head_that_does_not_come_is_not_waited_for(serve, head):
    with serve(keep_alive_timeout_s=0.3) as (_, url), connected(url) as client:
        client.sendall(head)
        assert client.recv(1) == b""


def wait_until(holds) -> bool:
    end_s = time.monotonic() + WAIT_S
    while not holds() and time.monotonic() < end_s:
        time.sleep(0.05)
    return holds()


def test_who_does_not_read_is_cut_off_and_holds_no_blocks(serve):
    """A million tokens would take a quarter of an hour."""
    with serve(write_timeout_s=0.5) as (engine, url), connected(url, receive_bytes=4096) as client:
        client.sendall(post(json.dumps(STREAM).encode()))
        assert wait_until(lambda: engine.live == 64)
        assert wait_until(lambda: engine.live == 0)
        assert len(set(engine.cancelled)) == 64


def test_who_reads_is_not_cut_off(serve):
    with serve(write_timeout_s=0.5) as (engine, url), connected(url) as client:
        client.sendall(post(json.dumps(STREAM).encode()))
        end_s, received = time.monotonic() + 3, 0
        while time.monotonic() < end_s or received <= 10_000:
            piece = len(client.recv(1 << 20))
            assert piece > 0
            received += piece
        assert engine.live == 64
    assert wait_until(lambda: engine.live == 0)
