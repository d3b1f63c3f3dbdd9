"""/api/chat and /api/generate as endpoints that generate."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from muxjax.server.answers.reply import Asked, Endpoint
from muxjax.server.catalog import Catalog
from muxjax.server.generation import Stamp
from muxjax.server.ollama.reply import OllamaReply
from muxjax.server.ollama.request import parse


def _read(body: Mapping[str, Any], catalog: Catalog, stamp: Stamp, *, chat: bool) -> Asked:
    generation = parse(body, catalog, stamp, chat=chat)
    return Asked(generation, OllamaReply(generation, str(body.get("model") or body.get("name") or generation.model.name), chat=chat))


CHAT = Endpoint("chat-", partial(_read, chat=True))
GENERATE = Endpoint("gen-", partial(_read, chat=False))
