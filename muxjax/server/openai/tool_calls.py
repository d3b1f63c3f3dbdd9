"""Tool calls read from an answer's text as it comes."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from muxjax.server.openai.tools import ToolUse

Json = dict[str, Any]
_HEAD = re.compile(r'\{"name": "([\w-]+)", "parameters": ')


class ToolCall(NamedTuple):
    """A call that a model wants to be run.

    Args:
      arguments: a JSON object, or its beginning where the answer was cut short.
    """

    name: str
    arguments: str


class CallPiece(NamedTuple):
    """A piece of text's addition to the calls.

    Args:
      index: place of the call in its answer.
      name: the function's, where a call begins.
      arguments: their next characters.
    """

    index: int
    name: str | None
    arguments: str


class CallReader(Protocol):
    """Takes an answer's text piece by piece."""

    def feed(self, text: str) -> list[CallPiece]: ...


def call_reader(use: ToolUse) -> CallReader:
    return NamedCall(use.named.name) if use.named else CallList()


class NamedCall:
    """All of the text is the arguments of one call."""

    def __init__(self, name: str):
        self._name: str | None = name

    def feed(self, text: str) -> list[CallPiece]:
        name, self._name = self._name, None
        return [CallPiece(0, name, text)] if name or text else []


class CallList:
    """The text is a list of calls, as the grammar of `ToolUse` has it: `[{"name": "f", "parameters": {...}}, ...]`."""

    def __init__(self):
        self._held = ""
        self._begun = 0
        self._open: _Object | None = None

    @property
    def is_whole(self) -> bool:
        """There are calls, and the last one has all of its arguments."""
        return self._begun > 0 and self._open is None

    def feed(self, text: str) -> list[CallPiece]:
        self._held += text
        pieces = []
        while piece := self._arguments() if self._open else self._head():
            pieces.append(piece)
        return pieces

    def _head(self) -> CallPiece | None:
        head = _HEAD.search(self._held)
        if head is None:
            return None
        self._held = self._held[head.end() :]
        self._open = _Object()
        self._begun += 1
        return CallPiece(self._begun - 1, head[1], "")

    def _arguments(self) -> CallPiece | None:
        assert self._open is not None
        end = self._open.end(self._held)
        arguments, self._held = self._held[:end], self._held[end:]
        if self._open.complete:
            self._open = None
        return CallPiece(self._begun - 1, None, arguments) if arguments else None


def call_deltas(pieces: list[CallPiece], answer: str) -> list[Json]:
    """Calls as an event tells them; each of one `answer` gets an id of its own."""
    return [_delta(piece, answer) for piece in pieces]


def whole_calls(pieces: list[CallPiece], answer: str) -> list[Json]:
    """Calls with all that there is of their arguments."""
    return [_call(index, call, answer) for index, call in enumerate(gathered(pieces))]


def gathered(pieces: Sequence[CallPiece]) -> tuple[ToolCall, ...]:
    """The calls of all of an answer's pieces."""
    arguments: dict[int, str] = defaultdict(str)
    for piece in pieces:
        arguments[piece.index] += piece.arguments
    return tuple(ToolCall(piece.name, arguments[piece.index]) for piece in pieces if piece.name)


def _delta(piece: CallPiece, answer: str) -> Json:
    if piece.name is None:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    return {"index": piece.index, **_call(piece.index, ToolCall(piece.name, piece.arguments), answer)}


def _call(index: int, call: ToolCall, answer: str) -> Json:
    """The id is nine letters and digits: the templates of Mistral's models refuse any other when it comes back."""
    id = hashlib.sha256(f"{answer}-{index}".encode()).hexdigest()[:9]
    return {"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


class _Object:
    """Finds the end of a JSON object: braces balance outside of strings."""

    def __init__(self):
        self._depth = 0
        self._in_string = self._escaped = False
        self.complete = False

    def end(self, text: str) -> int:
        """Characters of the text that belong to the object."""
        for place, character in enumerate(text):
            self._step(character)
            if self.complete:
                return place + 1
        return len(text)

    def _step(self, character: str) -> None:
        if self._in_string:
            self._in_string = self._escaped or character != '"'
            self._escaped = character == "\\" and not self._escaped
        elif character == '"':
            self._in_string = True
        elif character in "{}":
            self._depth += 1 if character == "{" else -1
            self.complete = self._depth == 0
