"""OpenAI's HTTP interface to a `Service`, Anthropic's and Ollama's."""

from aiohttp import web

from muxjax.server.config import HttpOptions
from muxjax.server.http.answering import Answering
from muxjax.server.http.auth import Surface
from muxjax.server.http.errors import errors
from muxjax.server.http.middleware import add_middlewares
from muxjax.server.http.refusals import noted
from muxjax.server.http.routes import adapters, admin, health, info, listing, messages, ollama, page, placement, responses, tokenize
from muxjax.server.openai.endpoints import ENDPOINTS
from muxjax.server.service import Service
from muxjax.server.telemetry import logs


def make_app(service: Service, http: HttpOptions, surface: Surface = Surface.ALL) -> web.Application:
    """The application, with the routes of that surface; whoever runs it keeps the service running."""
    app = web.Application(middlewares=[logs.logged, errors, noted(service.recent)], client_max_size=http.max_body_bytes)
    add_middlewares(app, http, surface)
    answering = Answering(service, tells_usage=http.enable_force_include_usage)
    app.on_response_prepare.append(logs.echo_id)
    app.add_routes(
        [
            *(web.post(path, answering.handler(endpoint)) for path, endpoint in ENDPOINTS.items()),
            *messages.routes(answering),
            *responses.routes(app, service, answering, http.response_store_bytes),
            *ollama.routes(service, answering),
            *listing.routes(service),
            *tokenize.routes(service),
            *health.routes(service),
            *info.routes(service),
            *page.routes(),
            *admin.routes(service, http.model_root),
            *adapters.routes(service, http.model_root),
            *placement.routes(service),
        ]
    )
    return app
