"""OpenAI's HTTP interface to a `Service`."""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from muxjax.server.admission.tenants import ANYONE, Tenant
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.generation import Generation, Stamp
from muxjax.server.http import admin, health, info, listing, page, tokenize
from muxjax.server.http.auth import Surface, tenant_of
from muxjax.server.http.body import read_object
from muxjax.server.http.errors import errors
from muxjax.server.http.middleware import fit_door
from muxjax.server.http.sse import send_events
from muxjax.server.openai.responses import ChatReply, CompletionReply, Reply
from muxjax.server.openai.schema import parse_chat, parse_completion
from muxjax.server.service import Service
from muxjax.server.telemetry import logs

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
            *listing.routes(service),
            *tokenize.routes(service),
            *health.routes(service),
            *info.routes(service),
            *page.routes(),
            *admin.routes(service),
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
    body, stamp = await request.read(), new_stamp(prefix, tenant_of(request))
    generation = await asyncio.to_thread(lambda: parse(read_object(body), service.catalog, stamp))
    _log_unknown(request.app[_SEEN_FIELDS], generation.unknown)
    reply = reply_of(generation)
    await service.prepare(generation)
    await service.awake(generation.model.name)
    with service.admit(generation) as deltas:
        if generation.stream:
            return await send_events(request, reply, deltas)
        async for delta in deltas:
            reply.add(delta)
    return web.json_response(reply.whole())


def new_stamp(prefix: str, tenant: Tenant = ANYONE) -> Stamp:
    """An answer's id, time, seed and owner."""
    name, seed = f"{prefix}-{uuid.uuid4().hex}", random.getrandbits(62)
    return Stamp(id=name, created=int(time.time()), arrival_s=time.monotonic(), seed=seed, tenant=tenant)


def _log_unknown(seen: set[str], names: tuple[str, ...]) -> None:
    """Once a field, and for a bounded number of them."""
    for name in names:
        if name not in seen and len(seen) < 1000:
            seen.add(name)
            _log.warning("ignoring the unknown request field %.100r", name)
