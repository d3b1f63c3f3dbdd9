"""Middleware that every request passes before its handler: origins, keys, bounds, in this order."""

from aiohttp import web

from muxjax.server.admission.lines import Lines
from muxjax.server.config import HttpOptions
from muxjax.server.http.auth import Keys, Surface, guard
from muxjax.server.http.bounds import add_bounds
from muxjax.server.http.cors import allow_origins


def add_middlewares(app: web.Application, http: HttpOptions, surface: Surface) -> None:
    """Lets through to the app what may come in; the middlewares it already has see what is refused too."""
    allow_origins(app, http.allowed_origins)
    app.middlewares.append(guard(Keys.of(http), Lines(http.fairness), surface))
    add_bounds(app, http)
