"""What is new of a choice since it was last told."""

from typing import NamedTuple

from muxjax.server.choice import Delta
from muxjax.server.generation import Generation
from muxjax.server.openai.logprobs import Told, characters, prompt_told
from muxjax.types import Finish, Logprobs


class ChoiceUpdate(NamedTuple):
    """Some of a choice, or all of it.

    Args:
      first: nothing of the choice was told before.
    """

    index: int
    first: bool
    text: str
    tokens: tuple[int, ...]
    told: tuple[Told, ...]
    prompt_logprobs: tuple[Logprobs, ...]
    finish: Finish | None
    stop_reason: str | int | None


class ChoiceBuffer:
    """Gathers a choice's deltas until somebody takes them."""

    def __init__(self, generation: Generation, index: int):
        self._generation, self._index = generation, index
        self._deltas: list[Delta] = []
        self._offset = len(generation.echo_of(index))
        self._first = True

    def add(self, delta: Delta) -> None:
        self._deltas.append(delta)

    def take(self) -> ChoiceUpdate:
        """Everything since the last time."""
        deltas, self._deltas = self._deltas, []
        first, self._first = self._first, False
        return ChoiceUpdate(
            self._index,
            first,
            "".join(delta.text for delta in deltas),
            tuple(token for delta in deltas for token in delta.tokens),
            tuple(one for delta in deltas for one in self._told(delta)),
            next((delta.prompt_logprobs for delta in deltas if delta.prompt_logprobs), ()),
            deltas[-1].finish,
            deltas[-1].stop_reason,
        )

    def _told(self, delta: Delta) -> list[Told]:
        """Tokens of which log-probabilities were asked for, those of an echo first."""
        generation, text = self._generation, self._generation.model.text
        if generation.logprobs is None:
            return []
        told = []
        if generation.echo and delta.prompt_logprobs is not None:
            prompt = generation.requests[self._index].prompt
            told = prompt_told(text, prompt, delta.prompt_logprobs, self._offset, special=generation.show_special)
        for token in delta.tokens:
            told.append(Told(token, self._offset, delta.logprobs))
            self._offset += characters(text, token, special=generation.show_special)
        return told
