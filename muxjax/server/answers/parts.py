"""Parts that the text of one choice is made of, as it comes: what is said, reasoning, calls of tools.

A model writes one text. Where it may call tools or thinks before it speaks, its request has an `AnswerForm` (`Generation.form`; None for a
plain answer, which needs no reader and has none). The form makes a reader for each choice; whoever answers feeds it that choice's text:

    reader = generation.form.reader()
    pieces = reader.feed(delta.text)          # any cut of the text gives the same parts
    if delta.finish is not None:
        pieces += reader.end()                # what was held back: the text's end may have been the beginning of a call
        reader.has_called                     # there are calls, and the last one is whole: then it is the client's turn

Pieces come in the order of the text. A `TextPiece` or `ReasoningPiece` adds to what there is of its kind; none is empty. A call begins
with a `CallPiece` that has a name, and goes on with pieces of the same index that have none, only ever of the last call begun; it is over
where another piece than its own comes, or the end. Arguments are JSON, whatever the model writes. What is no call after all, for it is
malformed or names no tool, is text. `gathered` makes the whole `Parts` of all pieces. Nothing here knows how any API tells of them:
`openai/replies.py` writes chats' deltas of the pieces, and gives calls their ids.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol


class TextPiece(NamedTuple):
    """More of what is said."""

    text: str


class ReasoningPiece(NamedTuple):
    """More of what the model thinks before it speaks."""

    text: str


class CallPiece(NamedTuple):
    """A call of a tool, or more of its arguments.

    Args:
      index: place of the call among those of its answer.
      name: the function's, where the call begins.
      arguments: their next characters.
    """

    index: int
    name: str | None
    arguments: str


Piece = TextPiece | ReasoningPiece | CallPiece


class PartReader(Protocol):
    """Takes a choice's text piece by piece."""

    def feed(self, text: str) -> list[Piece]:
        """What the text adds to the parts."""
        ...

    def end(self) -> list[Piece]:
        """What was held back, when no text follows."""
        ...

    @property
    def has_called(self) -> bool:
        """There are calls, and the last one has all of its arguments."""
        ...


class ToolCall(NamedTuple):
    """A call that a model wants to be run.

    Args:
      arguments: a JSON object, or its beginning where the answer was cut short.
    """

    name: str
    arguments: str


class Parts(NamedTuple):
    """All parts of an answer."""

    text: str
    reasoning: str
    calls: tuple[ToolCall, ...]


def gathered(pieces: Iterable[Piece]) -> Parts:
    """The parts that an answer's pieces make."""
    text, reasoning = "", ""
    names: dict[int, str] = {}
    arguments: dict[int, list[str]] = defaultdict(list)
    for piece in pieces:
        if isinstance(piece, TextPiece):
            text += piece.text
        elif isinstance(piece, ReasoningPiece):
            reasoning += piece.text
        else:
            names.setdefault(piece.index, piece.name or "")
            arguments[piece.index].append(piece.arguments)
    return Parts(text, reasoning, tuple(ToolCall(name, "".join(arguments[index])) for index, name in names.items()))


def part_digest(answer: str, place: int) -> str:
    """Hexadecimal digits of which a part of an answer gets its id: the same whenever it is told, and unlike any other's."""
    return hashlib.sha256(f"{answer}-{place}".encode()).hexdigest()


def whole_arguments(text: str) -> dict[str, Any]:
    """Arguments as an object, for APIs that tell them so; none of those that were cut off."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
