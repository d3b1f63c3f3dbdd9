"""Embeddings in OpenAI's JSON, of unit length."""

import base64
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from muxjax.server.answers.reply import Framing
from muxjax.server.choice import Delta
from muxjax.server.embeddings.request import EmbeddingForm
from muxjax.server.generation import Generation
from muxjax.types import Floats

Json = dict[str, Any]


class EmbeddingReply:
    """The embeddings of a generation's prompts, as of `Reply`: it is never a stream."""

    framing = Framing.EVENTS

    def __init__(self, generation: Generation, form: EmbeddingForm):
        self._generation, self._form = generation, form
        self._hidden: dict[int, bytes] = {}

    def add(self, delta: Delta) -> None:
        assert delta.hidden is not None, "the engine has computed a prompt without its hidden state"
        self._hidden[delta.index] = delta.hidden

    def whole(self, deltas: Iterable[Delta]) -> Json:
        for delta in deltas:
            self.add(delta)
        tokens = self._generation.prompt_tokens
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": self._told(self._hidden[index])} for index in sorted(self._hidden)
            ],
            "model": self._generation.model_name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def events(self) -> Iterator[Json]:
        yield from ()

    def last_events(self) -> Iterator[Json]:
        yield from ()

    def failure(self, error: Exception) -> Iterator[Json]:
        yield from ()

    def _told(self, hidden: bytes) -> list[float] | str:
        embedding = unit_length(np.frombuffer(hidden, "<f4")[: self._form.dimensions])
        return base64.b64encode(embedding.astype("<f4").tobytes()).decode() if self._form.base64 else embedding.tolist()


def unit_length(vector: Floats) -> Floats:
    """[E] the vector's direction; nothing but zeros has none, and stays."""
    wide = vector.astype(np.float64)
    return (wide / (np.linalg.norm(wide) or 1.0)).astype(np.float32)
