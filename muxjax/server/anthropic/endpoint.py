"""`/v1/messages` as an endpoint that generates, and what counts its prompts."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from muxjax.server.answers.reply import Asked, Endpoint
from muxjax.server.anthropic.reply import MessageReply
from muxjax.server.anthropic.request import parse_message
from muxjax.server.catalog import Catalog
from muxjax.server.generation import Stamp


def _read(body: Mapping[str, Any], catalog: Catalog, stamp: Stamp, *, counted: bool) -> Asked:
    generation = parse_message(body, catalog, stamp, counted=counted)
    return Asked(generation, MessageReply(generation))


MESSAGES = Endpoint("msg_", partial(_read, counted=False))
TOKENS_OF_MESSAGES = Endpoint("msg_", partial(_read, counted=True))
