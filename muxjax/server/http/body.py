"""Bodies in JSON: an object that a client sent, as a request or as a line of a batch, and answers."""

import json
import threading
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from muxjax.errors import RequestError
from muxjax.server.strict_json import encode

MOST_COMMAS = 2**20
"""Commas of a body, within its texts or without: what bounds the number of its values."""
MOST_COLONS_AND_BRACKETS = 2**18
"""Colons and opening brackets of a body: what bounds the number of its keys, objects and lists, which cost ten times as much."""
SMALL_BYTES = 2**16
"""Of a body that is parsed in a moment."""
_BODY = web.RequestKey("body", list[bytearray])
_one_large_body = threading.Lock()  # parsing holds the interpreter to its end: others get in between two large ones


async def receive(request: web.Request, most_bytes: int) -> None:
    """Has the whole body, for whoever takes it.

    Raises:
      HTTPRequestEntityTooLarge: it has more bytes.
    """
    body = bytearray()  # which grows in place: pieces that were joined would take as much again
    while piece := await request.content.readany():
        body += piece
        if len(body) > most_bytes:
            raise web.HTTPRequestEntityTooLarge(max_size=most_bytes, actual_size=len(body))
    request[_BODY] = [body]


def size_of(request: web.Request) -> int:
    """Bytes of the body, which nobody has taken yet."""
    return len(request[_BODY][0])


def take(request: web.Request) -> bytearray:
    """The body, once: the request does not keep it beside what is read of it."""
    return request[_BODY].pop()


def look(request: web.Request) -> bytearray:
    """The body, which stays for whoever takes it."""
    return request[_BODY][0]


def drop(request: web.Request) -> None:
    """Frees a body that nobody has taken: requests may live until Python's next collection."""
    request[_BODY].clear()


def read_object(body: bytes | bytearray, *, called: str = "body") -> Mapping[str, Any]:
    """The object.

    Args:
      called: what errors call the bytes.
    Raises:
      RequestError: it is none, has too many values, or holds NaN or a number beyond all floats, which JSON does not know.
    """
    if len(body) <= SMALL_BYTES:
        return _parsed(body, called)
    _require_few(called, "commas", body.count(b","), MOST_COMMAS)
    _require_few(called, "colons and opening brackets", sum(body.count(sign) for sign in (b":", b"[", b"{")), MOST_COLONS_AND_BRACKETS)
    with _one_large_body:
        text = _decoded(body, called)
        del body  # which is as large as the text, and the text as what it says
        return _parsed(text, called)


def _decoded(body: bytes | bytearray, called: str) -> str:
    """As `json.loads` does it."""
    try:
        return body.decode(json.detect_encoding(body), "surrogatepass")
    except UnicodeDecodeError as error:
        raise RequestError(f"The {called} is no JSON: {str(error)[:200]}") from error


def _parsed(body: bytes | bytearray | str, called: str) -> Mapping[str, Any]:
    try:
        value = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The {called} is no JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise RequestError(f"The {called} must be a JSON object, got {type(value).__name__}.")
    return value


def _require_few(called: str, what: str, count: int, most: int) -> None:
    """Raises RequestError: 413 for too many."""
    if count > most:
        raise RequestError(f"The {called} has {count} {what}, at most {most} are taken.", code="request_too_large", status=413)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise RequestError(f"{text[:40]} is beyond the range of numbers.", code="invalid_value")
    return value


def json_response(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A whole answer; see `strict_json`."""
    return web.json_response(value, status=status, headers=headers, dumps=encode)
