"""What is no proper HTTP is logged without a byte of it: it may hold a key."""

import logging
import socket
import urllib.parse

import pytest

from muxjax.server.background import in_background
from muxjax.server.config import HttpOptions
from muxjax.server.service import Service
from muxjax.server.telemetry import wire_log
from tests.fakes import FakeEngine

KEY = b"sk-xyzzy-4711"
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
MALFORMED = [
    HEAD + b"Authorization: Bearer " + KEY + b"\x01\r\n\r\n",
    HEAD + b"Authorization : Bearer " + KEY + b"\r\n\r\n",
    HEAD + b"Authorization\x00: Bearer " + KEY + b"\r\n\r\n",
    HEAD + b"Authorization Bearer " + KEY + b"\r\n\r\n",
    HEAD + b"Authorization: Bearer x\r\n " + KEY + b"\r\n\r\n",
    HEAD + b"Authorization: Bearer " + KEY + b"x" * 100_000 + b"\r\n\r\n",
    HEAD + b"Content-Length: " + KEY + b"\r\n\r\n",
    HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\nAuthorization: Bearer " + KEY + b"\r\n\r\n",
    HEAD + b"Transfer-Encoding: " + KEY + b"\r\n\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\nAuthorization: Bearer " + KEY + b"\r\n\r\n" + KEY + b"\r\n",
    b"POST /" + KEY + b" HTTP/1.1" + KEY + b"\r\n\r\n",
    b"POST //[" + KEY + b"?key=" + KEY + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://[" + KEY + b" HTTP/1.1\r\nHost: " + KEY + b"\r\n\r\n",
    KEY + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
    KEY + b"\r\n\r\n",
    b"\x16\x03\x01" + KEY,
]


@pytest.fixture(scope="module")
def url(catalog):
    with in_background(Service(FakeEngine(["org/a", "plain"]), catalog), HttpOptions(port=0, keep_alive_timeout_s=1.0)) as address:
        yield urllib.parse.urlsplit(address)


@pytest.mark.parametrize("sent", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_request_leaves_no_key_in_the_log(url, caplog, sent):
    caplog.set_level(logging.DEBUG)
    with socket.create_connection((url.hostname, url.port), timeout=30) as client:
        client.sendall(sent)
        received = client.recv(65536)
    assert received == b"" or int(received.split()[1]) < 500
    assert "xyzzy" not in caplog.text and "Traceback" not in caplog.text


def test_it_is_told_that_there_was_one(url, caplog):
    with socket.create_connection((url.hostname, url.port), timeout=30) as client:
        client.sendall(HEAD + b"Authorization: Bearer x\x01\r\n\r\n")
        assert b" 400 " in client.recv(65536)
    assert "no proper HTTP" in caplog.text


def test_a_defect_is_told_by_its_kind_and_line(caplog):
    try:
        raise ValueError(KEY.decode())
    except ValueError:
        wire_log.LOGGER.error("Unhandled exception", exc_info=True)
    assert "Unhandled exception: ValueError at " in caplog.text and "test_wire_log.py:" in caplog.text and "xyzzy" not in caplog.text
