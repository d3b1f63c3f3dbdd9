"""Health, load and metrics: what balancers and monitors ask."""

from aiohttp import web

from muxjax import __version__
from muxjax.server.http.body import json_response
from muxjax.server.service import Service


def routes(service: Service) -> list[web.RouteDef]:
    """Routes of health, readiness, load, version and metrics."""

    async def health(request: web.Request) -> web.Response:
        """The process listens only once its models are compiled, so health and readiness are one."""
        return web.Response(status=200 if service.ready else 503)

    async def load(request: web.Request) -> web.Response:
        models = {model.name: {"running": model.running, "waiting": model.waiting} for model in service.stats().models}
        return json_response({"server_load": sum(sum(counts.values()) for counts in models.values()), "models": models})

    async def version(request: web.Request) -> web.Response:
        return json_response({"version": __version__})

    async def metrics(request: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=service.metrics.exposition(), headers=headers)

    return [
        web.get("/health", health),
        web.get("/ready", health),
        web.get("/load", load),
        web.get("/version", version),
        web.get("/metrics", metrics),
    ]
