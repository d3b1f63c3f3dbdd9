"""OpenAI's HTTP interface to a `Service`."""

import asyncio
import json
import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from muxjax import __version__
from muxjax.errors import RequestError
from muxjax.server import info, logs, page
from muxjax.server.auth import Surface
from muxjax.server.catalog import Catalog, ServedModel
from muxjax.server.config import HttpOptions
from muxjax.server.door import fit_door
from muxjax.server.errors import errors
from muxjax.server.responses import ChatReply, CompletionReply, Reply
from muxjax.server.schema import Generation, Stamp, parse_chat, parse_completion
from muxjax.server.service import Service
from muxjax.server.sse import send_events

Parser = Callable[[Mapping[str, Any], Catalog, Stamp], Generation]
_SERVICE = web.AppKey("service", Service)
_SEEN_FIELDS = web.AppKey("seen_fields", set[str])
_log = logging.getLogger(__name__)


def make_app(service: Service, http: HttpOptions, surface: Surface = Surface.ALL) -> web.Application:
    """The application, with the routes of that surface; whoever runs it keeps the service running."""
    app = web.Application(middlewares=[logs.logged, errors], client_max_size=http.max_body_bytes)
    fit_door(app, http, surface)
    app[_SERVICE] = service
    app[_SEEN_FIELDS] = set()
    app.on_response_prepare.append(logs.echo_id)
    app.add_routes(
        [
            web.post("/v1/completions", _completions),
            web.post("/v1/chat/completions", _chat_completions),
            web.get("/v1/models", _models),
            web.get("/v1/models/{id:.+}", _model),
            web.get("/health", _health),
            web.get("/metrics", _metrics),
            web.get("/version", _version),
            *info.routes(service),
            *page.routes(),
        ]
    )
    return app


async def _completions(request: web.Request) -> web.StreamResponse:
    return await _answer(request, "cmpl", parse_completion, CompletionReply)


async def _chat_completions(request: web.Request) -> web.StreamResponse:
    return await _answer(request, "chatcmpl", parse_chat, ChatReply)


async def _answer(request: web.Request, prefix: str, parse: Parser, reply_of: type[Reply]) -> web.StreamResponse:
    """Admission comes before the headers, so that refusals have a status of their own."""
    service = request.app[_SERVICE]
    body, stamp = await request.read(), new_stamp(prefix)
    generation = await asyncio.to_thread(lambda: parse(read_object(body), service.catalog, stamp))
    _log_unknown(request.app[_SEEN_FIELDS], generation.unknown)
    reply = reply_of(generation)
    with service.admit(generation) as deltas:
        if generation.stream:
            return await send_events(request, reply, deltas)
        async for delta in deltas:
            reply.add(delta)
    return web.json_response(reply.whole())


def new_stamp(prefix: str) -> Stamp:
    """An answer's id, time and seed."""
    return Stamp(id=f"{prefix}-{uuid.uuid4().hex}", created=int(time.time()), arrival_s=time.monotonic(), seed=random.getrandbits(62))


def read_object(body: bytes) -> Mapping[str, Any]:
    """The JSON object of a request's body.

    Raises:
      RequestError: it is none, or holds NaN or infinity, which JSON does not know.
    """
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The body is no JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise RequestError(f"The body must be a JSON object, got {type(value).__name__}.")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _log_unknown(seen: set[str], names: tuple[str, ...]) -> None:
    """Once a field, and for a bounded number of them."""
    for name in names:
        if name not in seen and len(seen) < 1000:
            seen.add(name)
            _log.warning("ignoring the unknown request field %.100r", name)


async def _models(request: web.Request) -> web.Response:
    names = request.app[_SERVICE].catalog.names()
    return web.json_response({"object": "list", "data": [_entry(name, model) for name, model in names]})


async def _model(request: web.Request) -> web.Response:
    name = request.match_info["id"]
    return web.json_response(_entry(name, request.app[_SERVICE].catalog.find(name)))


def _entry(name: str, model: ServedModel) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "muxjax",
        "root": model.name,
        "parent": None,
        "max_model_len": model.max_model_len,
    }


async def _health(request: web.Request) -> web.Response:
    return web.Response(status=200 if request.app[_SERVICE].ready else 503)


async def _metrics(request: web.Request) -> web.Response:
    headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    return web.Response(body=request.app[_SERVICE].metrics.exposition(), headers=headers)


async def _version(request: web.Request) -> web.Response:
    return web.json_response({"version": __version__})
