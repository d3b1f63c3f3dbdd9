"""Bounds of what a client may cost, as middleware: the size of a request, and the time that its client takes."""

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from muxjax.errors import RequestError
from muxjax.server.config import HttpOptions
from muxjax.server.http.body import drop, receive

_WRITE_TIMEOUT_S = web.AppKey("write_timeout_s", float)
_NEVER_WAITS_BYTES = 2**15
"""Half of what asyncio buffers for a client before a write waits."""


def add_bounds(app: web.Application, http: HttpOptions) -> None:
    """Holds the app's requests to those bounds, and its streams' readers."""
    app[_WRITE_TIMEOUT_S] = http.write_timeout_s
    app.middlewares.append(_bounded(http))


def _bounded(http: HttpOptions) -> Middleware:
    """Has a request's whole body before its handler runs.

    Raises:
      RequestError: 431 for too large a head, 413 for too large a body, 408 for one that takes too long to come, 400 for one that is not
        encoded as its headers say.
    """

    @web.middleware
    async def within_bounds(request: web.Request, handler: Handler) -> web.StreamResponse:
        head_bytes = sum(len(name) + len(value) for name, value in request.raw_headers)
        if head_bytes > http.max_header_bytes:
            message = f"The headers have {head_bytes} bytes, at most {http.max_header_bytes} are taken."
            raise RequestError(message, code="headers_too_large", status=431)
        if (request.content_length or 0) > http.max_body_bytes:
            raise web.HTTPRequestEntityTooLarge(max_size=http.max_body_bytes, actual_size=request.content_length or 0)
        await _read(request, http)
        try:
            return await handler(request)
        finally:
            drop(request)

    return within_bounds


async def _read(request: web.Request, http: HttpOptions) -> None:
    """Receives the body; a connection on which it does not come, or comes broken, is closed."""
    try:
        async with asyncio.timeout(http.read_timeout_s):
            await receive(request, http.max_body_bytes)
    except TimeoutError as error:
        request.protocol.keep_alive(False)
        raise RequestError(f"The body did not come within {http.read_timeout_s:g} seconds.", code="request_timeout", status=408) from error
    except web.RequestPayloadError as error:
        request.protocol.keep_alive(False)
        raise RequestError(f"The body cannot be read: {' '.join(str(error).split())[:200]}") from error


async def write(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Sends a part of a stream.

    Raises:
      ConnectionResetError: the client has left, or has not taken enough for so long, whereupon it is cut off.
    """
    transport = request.transport
    if transport is not None and transport.get_write_buffer_size() + len(data) < _NEVER_WAITS_BYTES:
        await response.write(data)
        return
    try:
        async with asyncio.timeout(request.app[_WRITE_TIMEOUT_S]):
            await response.write(data)
    except TimeoutError as error:
        if transport is not None:
            transport.abort()
        raise ConnectionResetError("the client reads too slowly") from error
