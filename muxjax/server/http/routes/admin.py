"""`/admin/models`: models that come, go, sleep and wake, by any of their names. It is there with an admin key only; see `auth`."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web

from muxjax.engine.options import ModelOptions
from muxjax.errors import ConfigError, RequestError
from muxjax.server.config import OTHER_NAMES
from muxjax.server.fleet import Fleet
from muxjax.server.http.body import json_response, read_object, take
from muxjax.server.model_root import confined
from muxjax.server.residency import DRAIN_S
from muxjax.server.service import Service
from muxjax.settings import Setting, build, canonical, check_known, names

_COUNTS = ("running", "waiting", "held_blocks", "quota_blocks")


def routes(service: Service, model_root: Path | None) -> list[web.RouteDef]:
    """Routes of administration; none where the service cannot change its models."""
    fleet = service.fleet
    return [] if fleet is None else _routes(service, fleet, model_root)


def _routes(service: Service, fleet: Fleet, model_root: Path | None) -> list[web.RouteDef]:
    def named(request: web.Request) -> str:
        return fleet.find(request.match_info["name"]).name

    async def models(request: web.Request) -> web.Response:
        stats = service.stats()
        cache = {"total_blocks": stats.total_blocks, "free_blocks": stats.free_blocks, "block_bytes": stats.block_bytes}
        return json_response({"object": "list", "data": _entries(service, fleet), "cache": cache})

    async def add(request: web.Request) -> web.Response:
        model = confined(model_options(read_object(take(request))), model_root)
        await fleet.add(model)
        return json_response(_entry(service, fleet, model.name), status=201)

    async def remove(request: web.Request) -> web.Response:
        name = named(request)
        await fleet.remove(name, timeout_s=_timeout_s(request.query))
        return json_response({"name": name, "deleted": True})

    async def sleep(request: web.Request) -> web.Response:
        name = named(request)
        await fleet.sleep(name, timeout_s=_timeout_s(request.query))
        return json_response(_entry(service, fleet, name))

    async def wake(request: web.Request) -> web.Response:
        name = named(request)
        await fleet.wake(name)
        return json_response(_entry(service, fleet, name))

    return [
        web.get("/admin/models", models),
        web.post("/admin/models", add),
        web.delete("/admin/models/{name:.+}", remove),
        web.post("/admin/models/{name:.+}/sleep", sleep),
        web.post("/admin/models/{name:.+}/wake", wake),
    ]


def model_options(body: Mapping[str, Any]) -> ModelOptions:
    """Options of a body with the keys that a model has in the configuration file.

    Raises:
      RequestError: 400, a key that is not known, a value outside its range, or no name or path.
    """
    section = {canonical(name, OTHER_NAMES): Setting(value, name) for name, value in body.items()}
    try:
        check_known(section, names(ModelOptions))
        return build(ModelOptions, section)
    except ConfigError as error:
        raise RequestError.of(error) from error


def _entries(service: Service, fleet: Fleet) -> list[dict[str, Any]]:
    """Entries of all models in the order of the configuration, and then of those that are only coming or going."""
    states, counts = fleet.states(), {model.name: asdict(model) for model in service.stats().models}
    options = {model.name: model for model in fleet.options.models}
    entries = []
    for name in dict.fromkeys([*options, *states]):
        entry: dict[str, Any] = {"name": name, "state": states.get(name) or service.model_state(name)}
        if name in options:
            model = options[name]
            entry |= {"aliases": list(model.aliases), "path": str(model.path), "auto_wake": model.is_woken}
            entry |= {"ttl_s": model.ttl_s, "group": model.group}
        entries.append(entry | {count: counts[name][count] for count in _COUNTS if name in counts})
    return entries


def _entry(service: Service, fleet: Fleet, name: str) -> dict[str, Any]:
    """Raises RequestError: it has gone meanwhile (404)."""
    name = fleet.find(name).name
    return next(entry for entry in _entries(service, fleet) if entry["name"] == name)


def _timeout_s(query: Mapping[str, str]) -> float:
    """Raises RequestError: no time."""
    text = query.get("timeout", str(DRAIN_S))
    try:
        timeout_s = float(text)
    except ValueError:
        timeout_s = math.nan
    if not 0 <= timeout_s < math.inf:
        raise RequestError(f"timeout must be 0 or more seconds, got {text[:50]!r}", param="timeout")
    return timeout_s
