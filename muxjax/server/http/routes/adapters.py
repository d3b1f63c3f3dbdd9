"""`/admin/adapters`: LoRA adapters that come and go over the models that there are. It is there with an admin key only; see `auth`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import web

from muxjax.engine.options import LoraOptions, UnitOptions
from muxjax.errors import ConfigError, RequestError
from muxjax.server.fleet import Fleet
from muxjax.server.http.body import json_response, read_object, take
from muxjax.server.model_root import confined_folder
from muxjax.server.service import Service
from muxjax.settings import Setting, build, check_known, names


def routes(service: Service, model_root: Path | None) -> list[web.RouteDef]:
    """Routes of adapters; none where the service cannot change its models."""
    fleet = service.fleet
    return [] if fleet is None else _routes(fleet, model_root)


def _routes(fleet: Fleet, model_root: Path | None) -> list[web.RouteDef]:
    async def adapters(request: web.Request) -> web.Response:
        return json_response({"object": "list", "data": _entries(fleet.options)})

    async def add(request: web.Request) -> web.Response:
        lora, base = _asked(read_object(take(request)))
        await fleet.add_adapter(replace(lora, path=confined_folder(lora.path, model_root)), base)
        return json_response(next(entry for entry in _entries(fleet.options) if entry["name"] == lora.name), status=201)

    async def remove(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        await fleet.remove_adapter(name)
        return json_response({"name": name, "deleted": True})

    return [
        web.get("/admin/adapters", adapters),
        web.post("/admin/adapters", add),
        web.delete("/admin/adapters/{name:.+}", remove),
    ]


def _asked(body: Mapping[str, Any]) -> tuple[LoraOptions, str]:
    """The adapter of a body, and the name of the model that it is to be over.

    Raises:
      RequestError: 400, a key that is not known, or one that is missing.
    """
    base = body.get("model")
    if not isinstance(base, str):
        raise RequestError("model is required: the name of the model that the adapter is over", param="model")
    section = {name: Setting(value, name) for name, value in body.items() if name != "model"}
    try:
        check_known(section, names(LoraOptions))
        return build(LoraOptions, section), base
    except ConfigError as error:
        raise RequestError.of(error) from error


def _entries(options: UnitOptions) -> list[dict[str, Any]]:
    return [{"name": lora.name, "path": str(lora.path), "model": model.name} for model in options.models for lora in model.loras]
