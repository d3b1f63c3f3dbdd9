"""Health, load and metrics: what balancers and monitors ask."""

from aiohttp import web

from muxjax import __version__
from muxjax.server.http.body import json_response
from muxjax.server.service import Service


def routes(service: Service) -> list[web.RouteDef]:
    """Routes of health, readiness, load, version and metrics."""

    async def health(request: web.Request) -> web.Response:
        """The process lives and takes requests, whatever has become of single models."""
        return web.Response(status=200 if service.ready else 503)

    async def ready(request: web.Request) -> web.Response:
        """All is served that should be; with `?model=`, that one is."""
        name = request.query.get("model")
        models = list(service.catalog) if name is None else [service.catalog.find(name)]
        states = {model.name: service.model_state(model.name) for model in models}
        failed, loading = ([model for model, state in states.items() if state == own] for own in ("failed", "loading"))
        is_ready = service.ready and not failed and not loading and (name is None or set(states.values()) == {"ready"})
        told = {"ready": is_ready, "state": service.state, "failed": failed} | ({"loading": loading} if loading else {})
        return json_response(told, status=200 if is_ready else 503)

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
        *(method("/ping", health) for method in (web.get, web.post)),  # as vLLM has it, and SageMaker asks
        web.get("/ready", ready),
        web.get("/load", load),
        web.get("/version", version),
        web.get("/metrics", metrics),
    ]
