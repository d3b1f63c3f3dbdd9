"""Middleware that notes requests which were refused or failed, for who looks at the server now."""

import time

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from muxjax.errors import RequestError
from muxjax.server.http.errors import has_left
from muxjax.server.telemetry.recent_activity import RecentActivity, Refusal

_LOOKS = ("GET", "HEAD", "OPTIONS")
"""Of a page or a balancer, again and again."""


def noted(recent: RecentActivity) -> Middleware:
    """Notes status, code and route of what a handler raises, never what the client sent, and lets it pass on."""

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:
            if request.method not in _LOOKS and not has_left(request, error):
                recent.refusal(_refusal(request, error))
            raise

    return note


def _refusal(request: web.Request, error: Exception) -> Refusal:
    resource = request.match_info.route.resource
    status, code = 500, "internal_error"
    if isinstance(error, RequestError):
        status, code = error.status, error.code or error.param or ""
    elif isinstance(error, web.HTTPException):
        status, code = error.status, ""
    return Refusal(time.monotonic(), status, code, resource.canonical if resource else "no route")
