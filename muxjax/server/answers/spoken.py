"""What is said around calls: without the blanks that set the calls apart."""

from muxjax.server.answers.parts import Piece, TextPiece


class Spoken:
    """Text around calls; blanks are held back until a word follows.

    Args:
      is_heard: False for an answer that is calls alone, where nothing is said.
    """

    def __init__(self, *, is_heard: bool = True):
        self._blanks = ""
        self._is_heard = is_heard

    def add(self, text: str) -> list[Piece]:
        text = self._blanks + text
        words = text.rstrip()
        self._blanks = text[len(words) :]
        return [TextPiece(words)] if words and self._is_heard else []

    def call(self) -> None:
        """A call begins, or has ended: the blanks before it are not said."""
        self._blanks = ""

    def end(self, *, called: bool) -> list[Piece]:
        """Blanks at the end, which are said where there was no call."""
        return [TextPiece(self._blanks)] if self._blanks and self._is_heard and not called else []
