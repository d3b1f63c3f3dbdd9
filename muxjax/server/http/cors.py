"""CORS middleware: no page in a browser may call the server, unless its origin is allowed."""

from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Handler

_METHODS = "GET, POST, DELETE"
_READABLE = "X-Request-Id, Retry-After"
_FRESH_S = 600


def allow_origins(app: web.Application, allowed: Collection[str]) -> None:
    """Answers browsers that ask for one of the allowed origins, "*" for every one; without any, nothing changes."""
    if not allowed:
        return

    def origin_of(request: web.Request) -> str | None:
        origin = request.headers.get("Origin")
        return origin if origin and ("*" in allowed or origin in allowed) else None

    async def name_the_origin(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Vary"] = "Origin"
        if origin := origin_of(request):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _READABLE

    @web.middleware
    async def preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "OPTIONS" and origin_of(request):
            return web.Response(status=204, headers=_permission(request))
        return await handler(request)

    app.on_response_prepare.append(name_the_origin)
    app.middlewares.append(preflight)


def _permission(request: web.Request) -> dict[str, str]:
    names = request.headers.get("Access-Control-Request-Headers", "")
    headers = {"Access-Control-Allow-Methods": _METHODS, "Access-Control-Max-Age": str(_FRESH_S)}
    return headers | ({"Access-Control-Allow-Headers": names} if names else {})
