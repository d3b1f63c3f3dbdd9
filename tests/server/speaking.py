"""Engines that say what they are told to say."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from muxjax.server.text.tokenizer import Tokenizer
from muxjax.types import Request
from tests.server.kit import EOS

T = TypeVar("T")


def saying(tokenizer: Tokenizer, text: str, *, ends: bool = True) -> Callable[[Request, int], int]:
    """The reply of a `FakeEngine` whose every answer is that text; without an end, it goes on with spaces."""
    tokens = tokenizer.encode(text, special=False)
    last = EOS if ends else tokenizer.encode(" ", special=False)[0]
    return lambda request, k: tokens[k] if k < len(tokens) else last


class Paced:
    """A reply whose next token is made when an event of the last one has been read: tokens that come together would share an event.

    Args:
      tokens: that an event needs.
    """

    def __init__(self, reply: Callable[[Request, int], int], *, tokens: int = 1):
        self._reply, self._tokens = reply, tokens
        self._read = threading.Semaphore(tokens)

    def __call__(self, request: Request, k: int) -> int:
        assert self._read.acquire(timeout=30), "no event was read"
        return self._reply(request, k)

    def reading(self, events: Iterable[T]) -> Iterator[T]:
        """The events of the only request, as they come."""
        for event in events:
            self._read.release(self._tokens)
            yield event
