"""`/v1/responses`: to ask, and to have again, delete or cancel what is kept."""

from collections.abc import Callable

from aiohttp import web

from muxjax.errors import RequestError
from muxjax.server.admission.lines import line_of
from muxjax.server.http.answering import Answering
from muxjax.server.http.auth import sender_of
from muxjax.server.http.body import SMALL_BYTES, json_response
from muxjax.server.http.long_json import json_answer, json_body
from muxjax.server.responses.background import Background
from muxjax.server.responses.endpoint import responses
from muxjax.server.responses.reply import Json, ResponseReply
from muxjax.server.responses.store import ResponseStore, Stored
from muxjax.server.service import Service


def routes(app: web.Application, service: Service, answering: Answering, store_bytes: int) -> list[web.RouteDef]:
    """Routes of responses, the latest of which are kept."""
    store = ResponseStore(store_bytes)
    background = Background(service, store)
    endpoint = responses(store)

    async def close(_: web.Application) -> None:
        await background.close()

    app.on_shutdown.append(close)

    async def create(request: web.Request) -> web.StreamResponse:
        asked = await answering.asked(request, endpoint)
        reply = asked.reply
        assert isinstance(reply, ResponseReply)
        if reply.request.background:
            return json_response(background.start(asked.generation, reply))
        return await answering.answer(request, asked)

    async def count(request: web.Request) -> web.Response:
        generation, _ = await answering.asked(request, endpoint)
        return json_response({"object": "response.input_tokens", "input_tokens": generation.prompt_tokens})

    async def retrieve(request: web.Request) -> web.Response:
        if request.query.get("stream", "false").lower() not in ("false", "0", ""):
            raise RequestError("a response that is kept cannot be streamed again", param="stream", code="unsupported_value")
        stored = _stored(store, request)
        return await _told(service, request, stored, lambda: stored.response)

    async def items(request: web.Request) -> web.Response:
        stored = _stored(store, request)
        forwards = request.query.get("order", "desc") != "desc"
        return await _told(service, request, stored, lambda: _listed(stored.items if forwards else stored.items[::-1]))

    async def delete(request: web.Request) -> web.Response:
        stored = _stored(store, request)
        await background.cancel(stored.id)
        store.drop(stored.owner, stored.id)
        return json_response({"id": stored.id, "object": "response", "deleted": True})

    async def cancel(request: web.Request) -> web.Response:
        stored = _stored(store, request)
        if not stored.background:
            raise RequestError("Only a response in the background can be cancelled; leave the stream of another one.", param="response_id")
        await background.cancel(stored.id)
        return await retrieve(request)

    one = "/v1/responses/{id}"
    return [
        web.post("/v1/responses", create),
        web.post("/v1/responses/input_tokens", count),
        web.get(one, retrieve),
        web.delete(one, delete),
        web.post(f"{one}/cancel", cancel),
        web.get(f"{one}/input_items", items),
    ]


def _stored(store: ResponseStore, request: web.Request) -> Stored:
    """Raises RequestError: 404, it is not kept, or somebody else's."""
    return store.get(sender_of(request).tenant.name, request.match_info["id"])


def _listed(items: list[Json]) -> Json:
    return {"object": "list", "data": items, "first_id": items[0]["id"], "last_id": items[-1]["id"], "has_more": False}


async def _told(service: Service, request: web.Request, stored: Stored, answer: Callable[[], Json]) -> web.Response:
    """Something of what is kept, read and written in a pool where that may be long."""
    if stored.size <= SMALL_BYTES:
        return json_response(answer())
    return json_answer(await service.pools.large.run(line_of(*sender_of(request)), lambda: json_body(answer())))
