"""`/v1/messages`, Anthropic's way to ask, and `/v1/messages/count_tokens`."""

from aiohttp import web

from muxjax.server.anthropic.endpoint import MESSAGES, TOKENS_OF_MESSAGES
from muxjax.server.http.answering import Answering
from muxjax.server.http.body import json_response


def routes(answering: Answering) -> list[web.RouteDef]:
    async def count(request: web.Request) -> web.Response:
        generation, _ = await answering.asked(request, TOKENS_OF_MESSAGES)
        return json_response({"input_tokens": generation.prompt_tokens})

    return [web.post("/v1/messages", answering.handler(MESSAGES)), web.post("/v1/messages/count_tokens", count)]
