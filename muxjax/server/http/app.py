"""OpenAI's HTTP interface to a `Service`."""

import asyncio
import logging

from aiohttp import web
from aiohttp.typedefs import Handler

from muxjax.server.config import HttpOptions
from muxjax.server.generation import Stamp
from muxjax.server.http import admin, health, info, listing, page, tokenize
from muxjax.server.http.auth import Surface, sender_of
from muxjax.server.http.body import json_response, read_object
from muxjax.server.http.errors import errors
from muxjax.server.http.middleware import add_middlewares
from muxjax.server.http.sse import send_events
from muxjax.server.openai.endpoints import ENDPOINTS, Endpoint
from muxjax.server.service import Service
from muxjax.server.telemetry import logs

_SERVICE = web.AppKey("service", Service)
_SEEN_FIELDS = web.AppKey("seen_fields", set[str])
_MOST_LOGGED_FIELDS = 1000
_log = logging.getLogger(__name__)


def make_app(service: Service, http: HttpOptions, surface: Surface = Surface.ALL) -> web.Application:
    """The application, with the routes of that surface; whoever runs it keeps the service running."""
    app = web.Application(middlewares=[logs.logged, errors], client_max_size=http.max_body_bytes)
    add_middlewares(app, http, surface)
    app[_SERVICE] = service
    app[_SEEN_FIELDS] = set()
    app.on_response_prepare.append(logs.echo_id)
    app.add_routes(
        [
            *(web.post(path, _handler(endpoint)) for path, endpoint in ENDPOINTS.items()),
            *listing.routes(service),
            *tokenize.routes(service),
            *health.routes(service),
            *info.routes(service),
            *page.routes(),
            *admin.routes(service, http.model_root),
        ]
    )
    return app


def _handler(endpoint: Endpoint) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        service = request.app[_SERVICE]
        body, stamp = await request.read(), Stamp.new(endpoint.id_prefix, *sender_of(request))
        generation = await asyncio.to_thread(lambda: endpoint.parse(read_object(body), service.catalog, stamp))
        _log_unknown(request.app[_SEEN_FIELDS], generation.unknown)
        reply = endpoint.reply(generation)
        if not generation.stream:
            return json_response(reply.whole(await service.whole(generation)))
        async with service.generate(generation) as deltas:
            return await send_events(request, reply, deltas)

    return answer


def _log_unknown(seen: set[str], names: tuple[str, ...]) -> None:
    """Logs a field once, and a bounded number of them."""
    for name in names:
        if name not in seen and len(seen) < _MOST_LOGGED_FIELDS:
            seen.add(name)
            _log.warning("ignoring the unknown request field %.100r", name)
