"""Buffer of a choice: what is new of it since its client was last sent anything."""

from typing import NamedTuple

from muxjax.server.choice import Delta
from muxjax.server.generation import Generation
from muxjax.server.openai.logprobs import TokenLogprobs, characters, echo_logprobs
from muxjax.types import Finish, Logprobs


class ChoiceUpdate(NamedTuple):
    """Some of a choice, or all of it.

    Args:
      first: nothing of the choice was sent before.
      logprobs: entries of the tokens, where they were asked for, those of an echo first.
    """

    index: int
    first: bool
    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...]
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
        self.has_news = False
        """Its client is to be told now: of text, of its end, or that it has begun, its first token perhaps without text."""

    def add(self, delta: Delta) -> None:
        self._deltas.append(delta)
        begins = self._first and bool(delta.tokens)
        self.has_news = self.has_news or begins or bool(delta.text) or delta.finish is not None

    def take(self) -> ChoiceUpdate:
        """Everything since the last time."""
        deltas, self._deltas, self.has_news = self._deltas, [], False
        first, self._first = self._first, False
        last = deltas[-1]
        text, tokens = last.text, last.tokens
        if len(deltas) > 1:  # seldom
            text = "".join(delta.text for delta in deltas)
            tokens = tuple(token for delta in deltas for token in delta.tokens)
        logprobs = tuple(entry for delta in deltas for entry in self._logprobs(delta)) if self._generation.logprobs is not None else ()
        of_prompt = next((delta.prompt_logprobs for delta in deltas if delta.prompt_logprobs), ()) if first else ()
        return ChoiceUpdate(self._index, first, text, tokens, logprobs, of_prompt, last.finish, last.stop_reason)

    def _logprobs(self, delta: Delta) -> list[TokenLogprobs]:
        """Entries of a delta's tokens."""
        generation, tokenizer = self._generation, self._generation.model.tokenizer
        entries = []
        if generation.echo and delta.prompt_logprobs is not None:
            prompt = generation.requests[self._index].prompt
            entries = echo_logprobs(tokenizer, prompt, delta.prompt_logprobs, self._offset, special=generation.show_special)
        for token in delta.tokens:
            entries.append(TokenLogprobs(token, self._offset, delta.logprobs))
            self._offset += characters(tokenizer, token, special=generation.show_special)
        return entries
