"""Ollama's routes: what is served and asked, under its names, for clients that were made for it."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from muxjax import __version__
from muxjax.errors import RequestError
from muxjax.server.answers.reply import Endpoint
from muxjax.server.catalog import ServedModel
from muxjax.server.http.answering import Answering
from muxjax.server.http.body import json_response, look, read_object, size_of, take
from muxjax.server.ollama.endpoint import CHAT, GENERATE
from muxjax.server.ollama.request import asks_nothing, model_of
from muxjax.server.openai.fields import Fields
from muxjax.server.service import Service
from muxjax.units import show_count

_EMPTY_BYTES = 1024
"""Of a body that asks nothing."""


def routes(service: Service, answering: Answering) -> list[web.RouteDef]:
    """Routes of models, chats and completions; models are pulled, pushed and made elsewhere."""

    async def tags(request: web.Request) -> web.Response:
        return json_response({"models": [_entry(name, model) for name, model in service.catalog.names()]})

    async def running(request: web.Request) -> web.Response:
        ready = [(name, model) for name, model in service.catalog.names() if service.model_state(model.name) == "ready"]
        return json_response({"models": [_entry(name, model) | {"context_length": model.max_model_len} for name, model in ready]})

    async def show(request: web.Request) -> web.Response:
        return json_response(_shown(model_of(Fields(read_object(take(request))), service.catalog)))

    async def version(request: web.Request) -> web.Response:
        return json_response({"version": __version__})

    return [
        web.get("/api/tags", tags),
        web.get("/api/ps", running),
        web.get("/api/version", version),
        web.post("/api/show", show),
        web.post("/api/chat", _answered(service, answering, CHAT)),
        web.post("/api/generate", _answered(service, answering, GENERATE)),
    ]


def _answered(service: Service, answering: Answering, endpoint: Endpoint) -> Handler:
    """Answers; where nothing is asked the model is to be there, as Ollama's command line wants it first."""
    answer = answering.handler(endpoint)

    async def handle(request: web.Request) -> web.StreamResponse:
        if size_of(request) <= _EMPTY_BYTES and asks_nothing(fields := read_object(look(request))):
            return json_response(await _loaded(service, fields))
        return await answer(request)

    return handle


async def _loaded(service: Service, body: Mapping[str, Any]) -> dict[str, Any]:
    """Raises RequestError: there is no such model (404), or it sleeps on (503)."""
    model = model_of(Fields(body), service.catalog)
    if service.fleet is not None:
        await service.fleet.awake(model.base)
        if service.fleet.rests(model.base):
            raise RequestError(f"The model `{model.name}` is asleep.", param="model", code="model_loading", status=503)
    return {"model": body.get("model"), "created_at": _time(time.time()), "response": "", "done": True, "done_reason": "load"}


def _entry(name: str, model: ServedModel) -> dict[str, Any]:
    return {
        "name": name,
        "model": name,
        "modified_at": _time(model.created),
        "size": 0,
        "digest": model.fingerprint,
        "details": _details(model),
    }


def _time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat().replace("+00:00", "Z")


def _details(model: ServedModel) -> dict[str, Any]:
    return {
        "parent_model": model.parent or "",
        "format": "safetensors",
        "family": "",
        "families": None,
        "parameter_size": show_count(model.spec.params).replace(" ", ""),
        "quantization_level": model.spec.dtype,
    }


def _shown(model: ServedModel) -> dict[str, Any]:
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(model),
        "model_info": {"general.parameter_count": model.spec.params, "general.context_length": model.max_model_len},
        "capabilities": ["completion", *(["tools"] if model.template is not None else [])],
    }
