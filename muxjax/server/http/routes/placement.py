"""`/admin/placement`: which units there are, and another placement while requests go on. It is there with an admin key only; see `auth`."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from muxjax.errors import ConfigError, RequestError
from muxjax.placement.plan_file import as_json, of_json
from muxjax.placement.problem import Placement
from muxjax.server.http.body import json_response, read_object, take
from muxjax.server.plans.placing import Placing
from muxjax.server.service import Service


def routes(service: Service) -> list[web.RouteDef]:
    """Routes of the placement; none where there is one unit in this process."""
    placing = service.placing
    return [] if placing is None else _routes(placing)


def _routes(placing: Placing) -> list[web.RouteDef]:
    async def show(request: web.Request) -> web.Response:
        return json_response(as_json(placing.placement) | {"places": [place._asdict() for place in placing.places()]})

    async def change(request: web.Request) -> web.Response:
        placement = _placement(read_object(take(request)))
        if _is_dry(request):
            return json_response({"dry_run": True, "changes": placing.change_to(placement)})
        return json_response({"dry_run": False, "changes": await placing.move_to(placement)})

    return [web.get("/admin/placement", show), web.post("/admin/placement", change)]


def _placement(body: Mapping[str, Any]) -> Placement:
    """Raises RequestError: it is no placement (400)."""
    try:
        return of_json(body, "the body")
    except ConfigError as error:
        raise RequestError.of(error) from error


def _is_dry(request: web.Request) -> bool:
    """Raises RequestError: neither true nor false."""
    text = request.query.get("dry_run", "false")
    if text not in ("true", "false"):
        raise RequestError(f"dry_run must be true or false, got {text[:50]!r}", param="dry_run")
    return text == "true"
