"""Bodies of requests: prompts of random tokens, or texts of a data set."""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from muxjax.errors import require
from muxjax.workload.trace import Arrival

Body = Callable[[int, Arrival], bytes]
"""JSON of the n-th request, for what arrives."""
LONGEST = 2**18
"""Tokens of a prompt at most."""
LEAST_ID = 10
"""Smaller ids often begin or end a text."""
LETTERS_A_TOKEN = 4
"""Of English."""
_STRIDE = 104_729
"""Odd, so that LONGEST prompts begin at as many places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A prompt of a data set.

    Args:
      prompt: text, tokens, or the messages of a chat; output_tokens: the most that are asked for.
    """

    prompt: str | list[Any]
    output_tokens: int

    @property
    def is_chat(self) -> bool:
        return not isinstance(self.prompt, str) and isinstance(self.prompt[0], dict)

    @property
    def length(self) -> int:
        """Tokens where they are given, else about as many."""
        if isinstance(self.prompt, str):
            return about_tokens(self.prompt)
        return sum(about_tokens(str(message)) for message in self.prompt) if self.is_chat else len(self.prompt)


def about_tokens(text: str) -> int:
    """Tokens of a text, where no tokenizer is to count them."""
    return max(1, len(text) // LETTERS_A_TOKEN)


class RandomTokens:
    """Prompts of random tokens, as JSON: parts of one random text, which cost nothing to make while requests are sent.

    Args:
      below: ids are smaller.
    Raises:
      ConfigError: there are none.
    """

    def __init__(self, below: int, seed: int):
        require(LEAST_ID < below <= 2**24, "prompt_ids_below", below, f"over {LEAST_ID}, to {2**24}")
        ids = np.random.default_rng(seed).integers(LEAST_ID, below, LONGEST)
        pieces = [b"%d," % token for token in ids.tolist()] * 2
        self._text = b"".join(pieces)
        self._places = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])

    def of(self, number: int, arrival: Arrival) -> bytes:
        """A list of JSON; requests of a model that share a prefix group begin alike, and no others."""
        shared = min(arrival.prefix_tokens, arrival.prompt_tokens)
        own = self._part(number * _STRIDE, arrival.prompt_tokens - shared)
        if shared:
            own = self._part(zlib.crc32(f"{arrival.model}\n{arrival.prefix_group}".encode()), shared) + own
        return b"[" + own[:-1] + b"]"

    def _part(self, begin: int, tokens: int) -> bytes:
        begin %= LONGEST
        return self._text[self._places[begin] : self._places[begin + tokens]]


def random_bodies(below: int, seed: int, extra: Mapping[str, Any]) -> Body:
    """Streamed completions of random tokens."""
    tokens, rest = RandomTokens(below, seed), _rest(extra)

    def body(number: int, arrival: Arrival) -> bytes:
        head = f'{{"model":{json.dumps(arrival.model)},"max_tokens":{arrival.output_tokens},"prompt":'.encode()
        return head + tokens.of(number, arrival) + rest

    return body


def text_bodies(texts: Sequence[Text], extra: Mapping[str, Any], *, chat: bool) -> Body:
    """Streamed completions, or answers of chats, of texts one after the other, over and over."""
    rest = _rest(extra)

    def body(number: int, arrival: Arrival) -> bytes:
        prompt = texts[number % len(texts)].prompt
        if chat and isinstance(prompt, str):
            prompt = [{"role": "user", "content": prompt}]
        head = f'{{"model":{json.dumps(arrival.model)},"max_tokens":{arrival.output_tokens},"{"messages" if chat else "prompt"}":'
        return (head + json.dumps(prompt)).encode() + rest

    return body


def _rest(extra: Mapping[str, Any]) -> bytes:
    fields = {"stream": True, "stream_options": {"include_usage": True}, **extra}
    return ("," + json.dumps(fields)[1:]).encode()
