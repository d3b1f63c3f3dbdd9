"""The only choice of an answer as parts, for APIs that know of no more than one."""

from typing import NamedTuple

from muxjax.server.answers.choice_buffer import ChoiceBuffer
from muxjax.server.answers.parts import Piece, TextPiece
from muxjax.server.choice import Delta
from muxjax.server.generation import Generation
from muxjax.server.openai.logprobs import TokenLogprobs
from muxjax.types import Finish


class News(NamedTuple):
    """What was added since the last time.

    Args:
      logprobs: entries of the tokens, where they were asked for.
      stop: the client's string or token that ended the answer.
    """

    pieces: list[Piece]
    logprobs: tuple[TokenLogprobs, ...]
    finish: Finish | None
    stop: str | int | None


class SingleAnswer:
    """Gathers deltas until somebody takes them, and counts.

    Attributes:
      tokens: generated so far; cached_tokens: of the prompt, which were not computed.
    """

    def __init__(self, generation: Generation):
        self._buffer = ChoiceBuffer(generation, 0)
        form = generation.form
        self._reader = form.reader() if form else None
        self._reasoning = form.reasoning_tokens() if form else None
        self.tokens = self.cached_tokens = 0

    @property
    def reasoning_tokens(self) -> int:
        """So many of the tokens are reasoning, as far as its marks are tokens."""
        return self._reasoning.count if self._reasoning else 0

    @property
    def has_called(self) -> bool:
        """There are calls of tools, and the last one is whole."""
        return self._reader is not None and self._reader.has_called

    def add(self, delta: Delta) -> None:
        self.tokens += len(delta.tokens)
        self.cached_tokens += delta.cached_tokens
        if self._reasoning:
            self._reasoning.add(delta.tokens)
        self._buffer.add(delta)

    def take(self) -> News | None:
        """Everything since the last time; None where that is nothing that could be told."""
        if not self._buffer.has_news:
            return None
        update = self._buffer.take()
        if self._reader is None:
            pieces: list[Piece] = [TextPiece(update.text)] if update.text else []
        else:
            pieces = self._reader.feed(update.text)
            pieces += self._reader.end() if update.finish is not None else []
        return News(pieces, update.logprobs, update.finish, update.stop_reason)
