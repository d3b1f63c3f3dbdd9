"""Tokens to text where each token is bytes wherever it stands, as in byte-level BPE: nothing is decoded twice."""

import codecs
from collections.abc import Callable, Sequence

_CHARACTER_BYTES = 4
"""Of the longest character in UTF-8."""
_UTF8 = codecs.getincrementaldecoder("utf-8")


class ByteDetokenizer:
    """See `detokenizer.Detokenizer`.

    Args:
      piece: bytes of a token; empty for one that is not shown.
      prompt: a character that begins in it is the prompt's.
    """

    def __init__(self, piece: Callable[[int], bytes], prompt: Sequence[int] = ()):
        self._piece = piece
        self._decoder = _UTF8("replace")
        self._decoder.decode(_last_bytes(piece, prompt))
        self._has_begun = bool(self._decoder.getstate()[0])

    def copy(self) -> "ByteDetokenizer":
        """One at the same place, which goes its own way."""
        other = ByteDetokenizer(self._piece)
        other._decoder.setstate(self._decoder.getstate())
        other._has_begun = self._has_begun
        return other

    def feed(self, tokens: Sequence[int]) -> str:
        """What the tokens add to the text; nothing while a character is incomplete, U+FFFD for bytes that cannot become one."""
        return self._without_begun(self._decoder.decode(b"".join(map(self._piece, tokens))))

    def flush(self) -> str:
        """What is left when no token follows: U+FFFD for an incomplete character."""
        return self._without_begun(self._decoder.decode(b"", final=True))

    def _without_begun(self, text: str) -> str:
        """Without the character that began in the prompt, or the mark in its place."""
        if not self._has_begun or not text:
            return text
        self._has_begun = False
        return text[1:]


def _last_bytes(piece: Callable[[int], bytes], tokens: Sequence[int]) -> bytes:
    """As many of them as the beginning of a character may have, or more; of a text with fewer, all."""
    last = b""
    for token in reversed(tokens):
        last = piece(token) + last
        if len(last) >= _CHARACTER_BYTES:
            break
    return last
