"""`/v1/models`: which models there are, and whether they are ready."""

from typing import Any

from aiohttp import web

from muxjax.server.catalog import ServedModel
from muxjax.server.http.body import json_response
from muxjax.server.service import Service


def routes(service: Service) -> list[web.RouteDef]:
    """Routes of the list, in the order of the configuration, and of one entry, whose id may hold slashes."""

    async def models(request: web.Request) -> web.Response:
        return json_response({"object": "list", "data": [_entry(service, name, model) for name, model in service.catalog.names()]})

    async def one_model(request: web.Request) -> web.Response:
        name = request.match_info["id"]
        return json_response(_entry(service, name, service.catalog.find(name)))

    return [web.get("/v1/models", models), web.get("/v1/models/{id:.+}", one_model)]


def _entry(service: Service, name: str, model: ServedModel) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "muxjax",
        "root": model.adapter.path if model.adapter else model.name,
        "parent": model.parent,
        "max_model_len": model.max_model_len,
        "state": service.model_state(model.name),
    }
