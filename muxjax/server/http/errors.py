"""The middleware that makes error objects of exceptions, each API's own."""

import logging
import math
from collections.abc import Awaitable, Callable

from aiohttp import web

from muxjax.errors import RequestError
from muxjax.server.anthropic import errors as anthropic
from muxjax.server.http.body import json_response
from muxjax.server.ollama import errors as ollama
from muxjax.server.openai import errors as openai

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_log = logging.getLogger(__name__)
_CLIENT_CLOSED_REQUEST = 499  # nginx's, which HTTP has no word for
_RETRY_AFTER_S = {503: 1.0, 429: 1.0}


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers with the error's object and status whatever a handler raises; logs what is our fault."""
    try:
        return await handler(request)
    except RequestError as error:
        _forget(error)
        return _response(request, error)
    except web.HTTPException as error:
        _forget(error)
        return _response(request, _of_http(request, error), allow=error.headers.get("Allow"))
    except Exception as error:
        if has_left(request, error):
            return web.Response(status=_CLIENT_CLOSED_REQUEST)  # for the log: nobody reads it
        _log.exception("the request failed")
        return json_response(_object(request, error), status=500)


def _forget(error: BaseException | None) -> None:
    """Drops the frames that an error came through, and what they hold, such as a body: it and the future that brought it keep each other,
    and so all of that, until the next collection, which may be a thousand requests away."""
    seen: set[int] = set()  # an error may be its own cause
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def has_left(request: web.Request, error: Exception) -> bool:
    """Whether the error is that the client has closed its connection, or was cut off."""
    return isinstance(error, ConnectionResetError) and (request.transport is None or request.transport.is_closing())


def _object(request: web.Request, error: Exception) -> dict[str, object]:
    """The JSON of an error, as the API of that route has it."""
    owner = next((api for api in (anthropic, ollama) if request.path.startswith(api.PREFIX)), openai)
    return owner.error_object(error)


def _response(request: web.Request, error: RequestError, *, allow: str | None = None) -> web.Response:
    headers = {"Allow": allow} if allow else {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    retry_s = error.retry_after_s or _RETRY_AFTER_S.get(error.status)
    if retry_s:
        headers["Retry-After"] = str(math.ceil(retry_s))
    return json_response(_object(request, error), status=error.status, headers=headers)


def _resembling(request: web.Request) -> str:
    """The route that was meant, where a client's address lacks the /v1 that it does not add itself, or has one too many."""
    meant = request.path.removeprefix("/v1") if request.path.startswith("/v1/v1/") else f"/v1{request.path}"
    known = any(resource.canonical == meant for resource in request.app.router.resources())
    return f" Did you mean {meant}? The address of OpenAI's clients ends in /v1, that of Anthropic's does not." if known else ""


def _of_http(request: web.Request, error: web.HTTPException) -> RequestError:
    where = f"{request.method} {request.path[:200]}"
    if isinstance(error, web.HTTPNotFound):
        return RequestError(f"Unknown request URL: {where}.{_resembling(request)}", code="unknown_url", status=404)
    if isinstance(error, web.HTTPMethodNotAllowed):
        return RequestError(f"Not allowed method: {where}.", code="method_not_allowed", status=405)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return RequestError(f"The body is too large: {error.text}", code="request_too_large", status=413)
    return RequestError(error.reason, status=error.status)
