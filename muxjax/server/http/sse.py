"""Streams: a reply as it comes, as server-sent events (SSE) or as lines of JSON (NDJSON)."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from aiohttp import web

from muxjax.errors import RequestError
from muxjax.server.answers.reply import Framing, Reply
from muxjax.server.http.bounds import write
from muxjax.server.http.errors import has_left
from muxjax.server.http.long_json import json_body
from muxjax.server.service import Deltas
from muxjax.server.strict_json import encode_event

Aside = Callable[[Callable[[], list[bytes]]], Awaitable[list[bytes]]]
_log = logging.getLogger(__name__)
_TYPES = {Framing.LINES: "application/x-ndjson"}
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def send_events(request: web.Request, reply: Reply, deltas: Deltas, aside: Aside) -> web.StreamResponse:
    """Sends headers now and each delta as it comes, in one piece those that came together; an error then can only be an event.

    Args:
      aside: runs beside the event loop what may take long.
    Raises:
      ConnectionResetError: the client has left, or was cut off.
    """
    kind = _TYPES.get(reply.framing, "text/event-stream; charset=utf-8")
    response = web.StreamResponse(headers={"Content-Type": kind, **_HEADERS})
    await response.prepare(request)
    frame = _FRAMES[reply.framing]
    try:
        async for together in deltas:
            long = False
            for delta in together:
                reply.add(delta)
                long = long or bool(delta.prompt_logprobs)
            await _write(request, response, await aside(partial(_long_frames, reply)) if long else map(frame, reply.events()))
        await _write(request, response, map(frame, reply.last_events()))
    except Exception as error:
        if has_left(request, error):
            raise  # whoever admitted the request cancels it
        if not isinstance(error, RequestError):
            _log.exception("the stream failed")
        await _write(request, response, [*map(frame, reply.events()), *map(frame, reply.failure(error))])
    if reply.framing is Framing.EVENTS:
        await write(request, response, b"data: [DONE]\n\n")
    await response.write_eof()
    return response


async def _write(request: web.Request, response: web.StreamResponse, frames: Iterable[bytes]) -> None:
    """All in one piece; what is nothing needs no write."""
    if data := b"".join(frames):
        await write(request, response, data)


def _frame(event: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % encode_event(event)


def _named_frame(event: dict[str, Any]) -> bytes:
    return b"event: %b\n" % event["type"].encode() + _frame(event)


def _line(event: dict[str, Any]) -> bytes:
    return encode_event(event) + b"\n"


_FRAMES = {Framing.EVENTS: _frame, Framing.NAMED_EVENTS: _named_frame, Framing.LINES: _line}


def _long_frames(reply: Reply) -> list[bytes]:
    return [b"data: %b\n\n" % json_body(event) for event in reply.events()]
