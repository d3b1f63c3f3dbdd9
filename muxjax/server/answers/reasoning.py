"""Reasoning that a model writes before its answer: its parsers by name, and the reader that tells it from the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from muxjax.server.answers.parts import PartReader, Piece, ReasoningPiece
from muxjax.server.answers.pattern import Mark, beginning
from muxjax.server.answers.states import State, StateReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoning:
    """How reasoning is set apart.

    Args:
      always: an answer begins with it, whether or not the mark is there that opens it; one that goes on with what was begun does not.
    """

    open: Mark
    close: Mark
    always: bool = False

    @property
    def marks(self) -> tuple[Mark, Mark]:
        return self.open, self.close

    def is_opened(self, prompt_end: str, *, continued: bool = False) -> bool:
        """The prompt's end has opened it, so that an answer begins within."""
        return (self.always and not continued) or prompt_end.rstrip().endswith(self.open.text)


_OPEN, _CLOSE = Mark("<think>"), Mark("</think>")
REASONING: Mapping[str, Reasoning] = {
    "qwen3": Reasoning(open=_OPEN, close=_CLOSE),
    "deepseek_r1": Reasoning(open=_OPEN, close=_CLOSE, always=True),
    "mistral": Reasoning(open=Mark("[THINK]"), close=Mark("[/THINK]")),
}


def reasoning_of(template: str) -> str | None:
    """Name of the parser that a chat template was written for; None for none.

    One that names the opening mark writes it, or leaves it to the model; one that only cuts at the closing mark is DeepSeek-R1's.
    """
    if "[THINK]" in template:
        return "mistral"
    if _CLOSE.text not in template:
        return None
    return "qwen3" if _OPEN.text in template else "deepseek_r1"


class ReasoningTokens:
    """Count of one answer's tokens that are reasoning, its marks among them.

    Args:
      open, close: tokens of the marks.
      opened: the answer begins within it.
    """

    def __init__(self, open: int | None, close: int, *, opened: bool):
        self._open, self._close, self._within = open, close, opened
        self.count = 0

    def add(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            self._within = self._within or token == self._open
            self.count += self._within
            self._within = self._within and token != self._close


class ReasoningReader(StateReader):
    """Reader of reasoning, and of the answer behind it by another reader; the blanks around reasoning are nobody's.

    Args:
      opened: the text begins within it.
    """

    def __init__(self, reasoning: Reasoning, answer: PartReader, *, opened: bool):
        self._open, self._close = reasoning.open.text, reasoning.close.text
        self._answer = answer
        super().__init__(self._opened if opened else self._start)

    @property
    def has_called(self) -> bool:
        return self._answer.has_called

    def end(self) -> list[Piece]:
        return [*self._read(True), *self._answer.end()]

    def _start(self, last: bool) -> list[Piece] | None:
        """A mark may open reasoning."""
        text = self._held.lstrip()
        if text.startswith(self._open):
            self._state = self._opened
        elif last or not self._open.startswith(text):
            self._state = self._behind
        else:
            return None
        return []

    def _opened(self, last: bool) -> list[Piece] | None:
        """The mark, which may have been the prompt's."""
        text = self._held.lstrip()
        if not last and self._open.startswith(text) and text != self._open:
            return None
        self._held = text.removeprefix(self._open)
        self._state = self._before
        return []

    def _before(self, last: bool) -> list[Piece] | None:
        return self._skip_blanks(self._within)

    def _within(self, last: bool) -> list[Piece] | None:
        place = self._held.find(self._close)
        if place >= 0:
            thought, self._held = self._held[:place].rstrip(), self._held[place + len(self._close) :]
            self._state = self._closed
            return [ReasoningPiece(thought)] if thought else []
        kept = 0 if last else beginning(self._held, self._close)
        thought = self._held[: len(self._held) - kept].rstrip()
        self._held = "" if last else self._held[len(thought) :]
        return [ReasoningPiece(thought)] if thought else None

    def _closed(self, last: bool) -> list[Piece] | None:
        return self._skip_blanks(self._behind)

    def _behind(self, last: bool) -> list[Piece] | None:
        text, self._held = self._held, ""
        return self._answer.feed(text) if text else None

    def _skip_blanks(self, state: State) -> list[Piece] | None:
        self._held = self._held.lstrip()
        if not self._held:
            return None
        self._state = state
        return []
