"""OpenAI's HTTP interface to a `Service`."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler

from muxjax.server.choice import Delta
from muxjax.server.config import HttpOptions
from muxjax.server.generation import Generation, Stamp
from muxjax.server.http.auth import Surface, sender_of
from muxjax.server.http.body import SMALL_BYTES, json_response, read_object, size_of, take
from muxjax.server.http.errors import errors
from muxjax.server.http.long_json import json_answer, json_body
from muxjax.server.http.middleware import add_middlewares
from muxjax.server.http.routes import admin, health, info, listing, page, placement, tokenize
from muxjax.server.http.sse import send_events
from muxjax.server.openai.endpoints import ENDPOINTS, Endpoint
from muxjax.server.openai.grammar import GRAMMAR_FIELDS
from muxjax.server.openai.replies import Reply
from muxjax.server.service import Service
from muxjax.server.telemetry import logs

_SERVICE = web.AppKey("service", Service)
_SEEN_FIELDS = web.AppKey("seen_fields", set[str])
_MOST_LOGGED_FIELDS = 1000
_QUICK_ENTRIES = 1000
"""Of an answer that is made at once, in a few milliseconds."""
_QUICK_BYTES = 2**13
"""Of a body that is read at once, in a millisecond or two where it is text."""
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
            *(web.post(path, _handler(endpoint, force_usage=http.enable_force_include_usage)) for path, endpoint in ENDPOINTS.items()),
            *listing.routes(service),
            *tokenize.routes(service),
            *health.routes(service),
            *info.routes(service),
            *page.routes(),
            *admin.routes(service, http.model_root),
            *placement.routes(service),
        ]
    )
    return app


def _handler(endpoint: Endpoint, *, force_usage: bool) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        service = request.app[_SERVICE]
        stamp = Stamp.new(endpoint.id_prefix, *sender_of(request))
        generation = await _parsed(service, endpoint, request, stamp)
        if force_usage and generation.stream:
            generation = replace(generation, usage_at_end=True)
        _log_unknown(request.app[_SEEN_FIELDS], generation.unknown)
        reply = endpoint.reply(generation)
        if not generation.stream:
            return await _whole(service, generation, reply)
        async with service.generate(generation) as deltas:
            return await send_events(request, reply, deltas, partial(service.pools.large.run, generation.stamp.line))

    return answer


async def _parsed(service: Service, endpoint: Endpoint, request: web.Request, stamp: Stamp) -> Generation:
    """The body's generation, made in the pool of what it costs; here and now where that takes less than waiting for a thread."""
    pools, line, size = service.pools, stamp.line, size_of(request)
    small = size <= SMALL_BYTES
    fields = read_object(take(request)) if small else await pools.large.run(line, lambda: read_object(take(request)))
    if size <= _QUICK_BYTES and not endpoint.has_template and GRAMMAR_FIELDS.isdisjoint(fields):
        return endpoint.parse(fields, service.catalog, stamp)
    pool = pools.grammars if not GRAMMAR_FIELDS.isdisjoint(fields) else pools.small if small else pools.large
    return await pool.run(line, lambda: endpoint.parse(fields, service.catalog, stamp))


async def _whole(service: Service, generation: Generation, reply: Reply) -> web.Response:
    """The complete answer; a long one is made beside the event loop."""
    deltas = await service.whole(generation)
    if _entries(generation, deltas) <= _QUICK_ENTRIES:
        return json_response(reply.whole(deltas))
    return json_answer(await service.pools.large.run(generation.stamp.line, lambda: json_body(reply.whole(deltas))))


def _entries(generation: Generation, deltas: Sequence[Delta]) -> int:
    """What an answer tells of: its tokens, and the likeliest ones in the place of each."""
    of_prompt = sum(len(delta.prompt_logprobs or ()) for delta in deltas) * (2 + (generation.prompt_logprobs or generation.logprobs or 0))
    ids = generation.prompt_tokens if generation.token_ids else 0
    return len(deltas) * (1 if generation.logprobs is None else 2 + generation.logprobs) + of_prompt + ids


def _log_unknown(seen: set[str], names: tuple[str, ...]) -> None:
    """Logs a field once, and a bounded number of them."""
    for name in names:
        if name not in seen and len(seen) < _MOST_LOGGED_FIELDS:
            seen.add(name)
            _log.warning("ignoring the unknown request field %.100r", name)
