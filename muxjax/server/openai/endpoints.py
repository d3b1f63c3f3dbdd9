"""Endpoints that ask models: how each reads its requests and writes its answers."""

from collections.abc import Mapping
from typing import Any

from muxjax.server.answers.reply import Asked, Endpoint
from muxjax.server.catalog import Catalog
from muxjax.server.embeddings.reply import EmbeddingReply
from muxjax.server.embeddings.request import parse_embeddings
from muxjax.server.generation import Stamp
from muxjax.server.openai.replies import ChatReply, CompletionReply
from muxjax.server.openai.schema import parse_chat, parse_completion


def _completion(body: Mapping[str, Any], catalog: Catalog, stamp: Stamp) -> Asked:
    generation = parse_completion(body, catalog, stamp)
    return Asked(generation, CompletionReply(generation))


def _chat(body: Mapping[str, Any], catalog: Catalog, stamp: Stamp) -> Asked:
    generation = parse_chat(body, catalog, stamp)
    return Asked(generation, ChatReply(generation))


def _embeddings(body: Mapping[str, Any], catalog: Catalog, stamp: Stamp) -> Asked:
    generation, form = parse_embeddings(body, catalog, stamp)
    return Asked(generation, EmbeddingReply(generation, form))


ENDPOINTS = {
    "/v1/completions": Endpoint("cmpl-", _completion, has_template=False),
    "/v1/chat/completions": Endpoint("chatcmpl-", _chat),
    "/v1/embeddings": Endpoint("embd-", _embeddings, has_template=False),
}
