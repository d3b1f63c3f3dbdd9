"""Readers that are machines of states over what they hold of a text."""

from collections.abc import Callable

from muxjax.server.answers.parts import Piece

State = Callable[[bool], list[Piece] | None]
"""Takes some of the text, told whether it is the last, and says what it adds; None where it waits for more."""


class StateReader:
    """Takes a text piece by piece; each state takes of `_held` what it knows, and names the next one.

    Args:
      state: the first.
    """

    def __init__(self, state: State):
        self._held = ""
        self._state = state

    def feed(self, text: str) -> list[Piece]:
        self._held += text
        return self._read(False)

    def _read(self, last: bool) -> list[Piece]:
        """What states make of the text, one after the other, until one waits."""
        pieces: list[Piece] = []
        while (made := self._state(last)) is not None:
            pieces += made
        return pieces
