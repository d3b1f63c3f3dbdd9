"""Endpoints that generate: how each reads its requests and writes its answers."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from muxjax.server.catalog import Catalog
from muxjax.server.generation import Generation, Stamp
from muxjax.server.openai.replies import ChatReply, CompletionReply, Reply
from muxjax.server.openai.schema import parse_chat, parse_completion


class Endpoint(NamedTuple):
    """One of them.

    Args:
      id_prefix: what the ids of its answers begin with.
      has_template: its prompts are made by a model's template, which may take its time.
    """

    id_prefix: str
    parse: Callable[[Mapping[str, Any], Catalog, Stamp], Generation]
    reply: type[Reply]
    has_template: bool


ENDPOINTS = {
    "/v1/completions": Endpoint("cmpl", parse_completion, CompletionReply, has_template=False),
    "/v1/chat/completions": Endpoint("chatcmpl", parse_chat, ChatReply, has_template=True),
}
