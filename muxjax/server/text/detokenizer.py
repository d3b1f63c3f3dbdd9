"""Tokens to text as they come, up to a stop string."""

from collections.abc import Callable, Sequence

_PART = "\N{REPLACEMENT CHARACTER}"


_CONTEXT_TOKENS = 4


class Detokenizer:
    """Text of tokens one by one, in whole characters only.

    Some decoders treat a text's first token in their own way, so the end of the prompt is kept before the output.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], prompt: Sequence[int] = ()):
        context = list(prompt[-_CONTEXT_TOKENS:])
        self._decode = decode
        self._tokens = [] if decode(context).endswith(_PART) else context
        self._shown = len(self._tokens)

    def feed(self, token: int) -> str:
        """What the token adds to the text; nothing while a character is incomplete."""
        self._tokens.append(token)
        text = self._unseen()
        if not text or text.endswith(_PART):
            return ""
        self._tokens, self._shown = self._tokens[self._shown :], len(self._tokens) - self._shown
        return text

    def flush(self) -> str:
        """What is left of whole characters."""
        return self._unseen().rstrip(_PART)

    def _unseen(self) -> str:
        return self._decode(self._tokens)[len(self._decode(self._tokens[: self._shown])) :]


class TextStream:
    """Text of tokens one by one, cut at the stop string that is complete first.

    Args:
      include: the stop string is part of the text.
      free: so many tokens are not searched for stop strings.
    Attributes:
      stopped: that stop string, once it has come; then there is no more text.
    """

    def __init__(self, tokens: Detokenizer, stops: Sequence[str] = (), *, include: bool = False, free: int = 0):
        self._tokens = tokens
        self._stops = stops
        self._include = include
        self._free = free
        self._held = ""
        self.stopped: str | None = None

    def feed(self, token: int) -> str:
        """What the token adds to the text; what may begin a stop string is held back."""
        if self._free > 0:
            self._free -= 1
            return self._tokens.feed(token)
        return self._cut(self._tokens.feed(token))

    def flush(self) -> str:
        """What was held back, when no token follows."""
        text = self._cut(self._tokens.flush())
        held, self._held = self._held, ""
        return text + held

    def _cut(self, new: str) -> str:
        text = self._held + new
        stop = first_stop(text, self._stops)
        if stop is not None:
            self.stopped, self._held = stop, ""
            return text[: text.index(stop) + self._include * len(stop)]
        held = max((_beginning(text, stop) for stop in self._stops), default=0)
        shown = len(text) - held
        self._held = text[shown:]
        return text[:shown]


def first_stop(text: str, stops: Sequence[str]) -> str | None:
    """The stop string that is complete first; of two that end together, the longer."""
    found = [(text.index(stop) + len(stop), -len(stop), stop) for stop in stops if stop in text]
    return min(found)[2] if found else None


def _beginning(text: str, stop: str) -> int:
    """Characters at the end of the text that begin the stop string."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
