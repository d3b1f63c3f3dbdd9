"""Engines that say what they are told to say."""

from collections.abc import Callable

from muxjax.server.text.tokenizer import Tokenizer
from muxjax.types import Request
from tests.server.kit import EOS


def saying(tokenizer: Tokenizer, text: str, *, ends: bool = True) -> Callable[[Request, int], int]:
    """The reply of a `FakeEngine` whose every answer is that text; without an end, it goes on with spaces."""
    tokens = tokenizer.encode(text, special=False)
    last = EOS if ends else tokenizer.encode(" ", special=False)[0]
    return lambda request, k: tokens[k] if k < len(tokens) else last
