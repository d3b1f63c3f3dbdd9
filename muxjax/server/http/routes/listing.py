"""`/v1/models`: which models there are, and whether they are ready; with the fields of OpenAI's list, and of Anthropic's."""

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from muxjax.server.catalog import ServedModel
from muxjax.server.http.body import json_response
from muxjax.server.service import Service


def routes(service: Service) -> list[web.RouteDef]:
    """Routes of the list, in the order of the configuration, and of one entry, whose id may hold slashes."""

    async def models(request: web.Request) -> web.Response:
        entries = [_entry(service, name, model) for name, model in service.catalog.names()]
        ends = {"first_id": entries[0]["id"] if entries else None, "last_id": entries[-1]["id"] if entries else None}
        return json_response({"object": "list", "data": entries, "has_more": False, **ends})

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
        "type": "model",
        "display_name": name,
        "created_at": datetime.fromtimestamp(model.created, UTC).isoformat().replace("+00:00", "Z"),
    }
