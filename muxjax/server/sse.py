"""A reply as server-sent events."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from muxjax.errors import RequestError
from muxjax.server.bounds import write
from muxjax.server.errors import error_object
from muxjax.server.responses import Reply
from muxjax.server.service import Delta

_log = logging.getLogger(__name__)
_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def send_events(request: web.Request, reply: Reply, deltas: AsyncIterator[Delta]) -> web.StreamResponse:
    """Sends headers now and each delta as it comes; an error then can only be an event."""
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(request)
    try:
        async for delta in deltas:
            reply.add(delta)
            for event in reply.events(delta):
                await write(request, response, _frame(event))
        for event in reply.last_events():
            await write(request, response, _frame(event))
    except ConnectionResetError:
        return response  # the client has left, or was cut off; whoever admitted the request cancels it
    except RequestError as error:
        await response.write(_frame(error_object(error)))
    except Exception as error:
        _log.exception("the stream failed")
        await response.write(_frame(error_object(error)))
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def _frame(event: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(event, separators=(",", ":")).encode()
