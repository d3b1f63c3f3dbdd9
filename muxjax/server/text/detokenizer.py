"""Tokens to text as they come, up to a stop string."""

import copy
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Protocol

_PART = "\N{REPLACEMENT CHARACTER}"
_CHARACTER_BYTES = 4
"""Of the longest character in UTF-8; a token that is part of one has at least one byte."""
_CONTEXT_TOKENS = (4, 5, 6, 7)
"""Of the prompt's end: one of these begins with a character, even where every token is one byte."""
_SEARCHED_TOKENS = 1024
"""Of the prompt's end, where many may be special ones that are not shown."""


class Detokenizer(Protocol):
    """Text of tokens one by one, in whole characters: that of prompt and answer together without the prompt's."""

    def copy(self) -> "Detokenizer":
        """One at the same place, which goes its own way: where a prompt has many answers, its end is read once."""
        ...

    def feed(self, tokens: Sequence[int]) -> str:
        """What the tokens add to the text; nothing while a character is incomplete, U+FFFD for bytes that cannot become one."""
        ...

    def flush(self) -> str:
        """What is left when no token follows, with U+FFFD for an incomplete character."""
        ...


class ContextDetokenizer:
    """See `Detokenizer`; for tokens whose text depends on what stands beside them.

    Some decoders strip a text's first space, and some read a run of bytes as a whole. So tokens are decoded behind some that were told
    before them, and the difference is theirs. The work for a token does not depend on how many came before it.

    Args:
      decode: text of tokens, with U+FFFD for bytes that are no character.
      prompt: a character that begins in it is the prompt's.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], prompt: Sequence[int] = ()):
        self._decode = decode
        self._context, self._tokens = _split_at_character(decode, prompt)
        self._base = decode(self._context)
        self._begun = self._unseen(self._tokens)

    def copy(self) -> "ContextDetokenizer":
        """One at the same place, which goes its own way."""
        other = copy.copy(self)
        other._context, other._tokens = list(self._context), list(self._tokens)
        return other

    def feed(self, tokens: Sequence[int]) -> str:
        """What the tokens add to the text; nothing while a character is incomplete, U+FFFD for bytes that cannot become one."""
        if len(tokens) > 1 and not self._tokens:
            text = self._unseen(list(tokens))
            if text and _PART not in text:  # whole characters, as nearly always: all at once
                self._tokens = list(tokens)
                return self._tell(text, len(tokens))
        return "".join(map(self._feed, tokens))

    def _feed(self, token: int) -> str:
        begun = bool(self._tokens)
        if begun and self._is_nothing(token):
            return ""
        self._tokens.append(token)
        text = self._settle(_CHARACTER_BYTES - 1)
        if not begun and self._tokens and self._is_nothing(token):
            self._tokens.clear()
        return text

    def flush(self) -> str:
        """What is left when no token follows, with U+FFFD for an incomplete character."""
        return self._settle(0) + self._tell(self._unseen([]), 0)

    def _settle(self, most: int) -> str:
        """Text of all tokens but the last few (at most so many) that may be the beginning of a character."""
        text = ""
        while self._tokens:
            unseen = self._unseen(self._tokens)
            if unseen.strip(_PART):
                return text + self._tell(unseen, len(self._tokens), held=unseen.endswith(_PART))
            if len(self._tokens) <= most:
                break
            text += self._tell(self._unseen(self._tokens[:1]), 1)
        return text

    def _is_nothing(self, token: int) -> bool:
        """Whether it has no text wherever it stands, as a special token that is not shown; a space that is stripped shows when doubled."""
        return not self._decode([token, token])

    def _unseen(self, tokens: list[int]) -> str:
        """Text of tokens that follow the context, or of them alone where only so they are whole."""
        text = self._decode([*self._context, *tokens])
        ended = self._base.endswith(_PART) and len(text) >= len(self._base)  # the context's last bytes may have become a character
        follows = text.startswith(self._base[:-1] if ended else self._base)
        if follows and not text.endswith(_PART):
            return text[len(self._base) :]
        alone = self._decode(tokens)
        whole = alone and not alone.endswith(_PART)
        return alone if whole or not follows else text[len(self._base) :]

    def _tell(self, text: str, count: int, *, held: bool = False) -> str:
        """The text of the first tokens, which become the context of the others; without the character that began in the prompt.

        Args:
          held: but for its last character, of which bytes may follow.
        """
        tokens, self._tokens = self._tokens[:count], self._tokens[count:]
        self._context = tokens if text and tokens else [*self._context, *tokens][-_CONTEXT_TOKENS[-1] :]
        base = self._decode(self._context)
        self._base, text = (base[:-1], text[:-1]) if held else (base, text)
        return self._without_begun(text) if self._begun and text else text

    def _without_begun(self, text: str) -> str:
        """The text without that of the prompt's last tokens, whose last character it may have made whole."""
        begun, self._begun = self._begun, ""
        if len(text) < len(begun) and begun.startswith(text):
            self._begun = begun[len(text) :]
            return ""
        if text.startswith(begun[:-1]):
            return text[len(begun) :]
        return text.lstrip(_PART)[1:]  # marks of several bytes have become one character


def _split_at_character(decode: Callable[[Sequence[int]], str], prompt: Sequence[int]) -> tuple[list[int], list[int]]:
    """The last tokens of a prompt up to its last whole character, and those of an incomplete one that follows."""
    tail = _shown_tail(decode, prompt)
    for end in range(len(tail), max(len(tail) - _CHARACTER_BYTES, -1), -1):
        for size in _CONTEXT_TOKENS:
            context = tail[max(end - size, 0) : end]
            if not decode(context).endswith(_PART):
                return context, tail[end:]
    return tail[-_CONTEXT_TOKENS[0] :], []


def _shown_tail(decode: Callable[[Sequence[int]], str], prompt: Sequence[int]) -> list[int]:
    """As many of the last tokens that have text as a split may need, in order."""
    tail: list[int] = []
    shown: dict[int, bool] = {}
    for token in reversed(prompt[-_SEARCHED_TOKENS:]):
        if token not in shown:
            shown[token] = bool(decode([token, token]))  # a space that is stripped shows when doubled
        if shown[token]:
            tail.insert(0, token)
        if len(tail) == _CONTEXT_TOKENS[-1] + _CHARACTER_BYTES:
            break
    return tail


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
        self._stops = sorted(stops)
        self._include = include
        self._free = free
        self._held = ""
        self.stopped: str | None = None

    def feed(self, tokens: Sequence[int]) -> str:
        """What the tokens add to the text, one at a time where there are stop strings; what may begin one is held back."""
        if not self._stops:
            return self._tokens.feed(tokens)
        free, self._free = tokens[: self._free], max(0, self._free - len(tokens))
        return self._tokens.feed(free) + self._cut(self._tokens.feed(tokens[len(free) :]))

    def flush(self) -> str:
        """What was held back, when no token follows."""
        text = self._cut(self._tokens.flush())
        held, self._held = self._held, ""
        return text + held

    def _cut(self, new: str) -> str:
        text = self._held + new
        stop = first_stop(text, [stop for stop in self._stops if stop[-1] in new])
        if stop is not None:
            self.stopped, self._held = stop, ""
            return text[: text.index(stop) + self._include * len(stop)]
        shown = _beginning(text, self._stops)
        self._held = text[shown:]
        return text[:shown]


def first_stop(text: str, stops: Sequence[str]) -> str | None:
    """The stop string that is complete first; of two that end together, the longer."""
    found = [(text.index(stop) + len(stop), -len(stop), stop) for stop in stops if stop in text]
    return min(found)[2] if found else None


def _beginning(text: str, stops: Sequence[str]) -> int:
    """Where the longest end of the text begins that is the beginning of a stop string, of sorted ones; behind the text if there is none.

    What is passed over is never looked at again: over a whole text it is a step for each character, however many stop strings there are.
    """
    longest = max(map(len, stops), default=1)
    for place in range(max(0, len(text) - longest + 1), len(text)):
        end = text[place:]
        nearest = bisect_left(stops, end)
        if nearest < len(stops) and stops[nearest].startswith(end):
            return place
    return len(text)
