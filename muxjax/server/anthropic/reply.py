"""An answer as Anthropic's message, whole or event by event."""

from collections.abc import Iterable, Iterator
from typing import Any

from muxjax.server.answers.parts import CallPiece, Piece, ReasoningPiece, part_digest, whole_arguments
from muxjax.server.answers.reply import Framing
from muxjax.server.answers.single import News, SingleAnswer
from muxjax.server.anthropic.errors import error_object
from muxjax.server.choice import Delta
from muxjax.server.generation import Generation
from muxjax.types import Finish

Json = dict[str, Any]
_TEXT, _THINKING, _CALL = "text", "thinking", "tool_use"


class Blocks:
    """Blocks of a message as its pieces come: each piece goes on with the open block, or begins another one.

    Args:
      answer: name of the message, of which ids of calls are made.
    """

    def __init__(self, answer: str):
        self._answer = answer
        self._kind = ""
        self._texts: list[str] = []
        self.whole: list[Json] = []

    def take(self, piece: Piece) -> Iterator[Json]:
        """Events of the piece."""
        kind = _kind_of(piece)
        if kind != self._kind or (isinstance(piece, CallPiece) and piece.name is not None):
            yield from self.close()
            yield from self._begin(kind, piece)
        text = piece.arguments if isinstance(piece, CallPiece) else piece.text
        if text:
            self._texts.append(text)
            yield {"type": "content_block_delta", "index": len(self.whole) - 1, "delta": _delta(kind, text)}

    def close(self) -> Iterator[Json]:
        """Ends the open block, if there is one."""
        if self._kind:
            self.whole[-1] |= _content(self._kind, "".join(self._texts))
            yield {"type": "content_block_stop", "index": len(self.whole) - 1}
        self._kind, self._texts = "", []

    def _begin(self, kind: str, piece: Piece) -> Iterator[Json]:
        block: Json = {"type": kind}
        if isinstance(piece, CallPiece):
            digest = part_digest(self._answer, piece.index)
            block |= {"id": f"toolu_{digest[:24]}", "name": piece.name or ""}
        block |= _content(kind, "")
        self._kind = kind
        self.whole.append(block)
        yield {"type": "content_block_start", "index": len(self.whole) - 1, "content_block": dict(block)}


class MessageReply:
    """An answer of /v1/messages, as of `Reply`."""

    framing = Framing.NAMED_EVENTS

    def __init__(self, generation: Generation):
        self._generation = generation
        self._answer = SingleAnswer(generation)
        self._blocks = Blocks(generation.stamp.id)
        self._end: News | None = None
        self._begun = False

    def add(self, delta: Delta) -> None:
        self._answer.add(delta)

    def whole(self, deltas: Iterable[Delta]) -> Json:
        for delta in deltas:
            self.add(delta)
        for _ in (*self._news(), *self._blocks.close()):
            pass
        return self._message(self._blocks.whole) | self._stop() | {"usage": self._usage(self._answer.tokens)}

    def events(self) -> Iterator[Json]:
        if not self._begun:
            self._begun = True
            begun = self._message([]) | {"stop_reason": None, "stop_sequence": None, "usage": self._usage(0)}
            yield {"type": "message_start", "message": begun}
        yield from self._news()

    def last_events(self) -> Iterator[Json]:
        yield from self._blocks.close()
        yield {"type": "message_delta", "delta": self._stop(), "usage": self._usage(self._answer.tokens)}
        yield {"type": "message_stop"}

    def failure(self, error: Exception) -> Iterator[Json]:
        yield error_object(error)

    def _news(self) -> Iterator[Json]:
        news = self._answer.take()
        if news is None:
            return
        for piece in news.pieces:
            yield from self._blocks.take(piece)
        if news.finish is not None:
            self._end = news

    def _message(self, content: list[Json]) -> Json:
        generation = self._generation
        return {"id": generation.stamp.id, "type": "message", "role": "assistant", "model": generation.model_name, "content": content}

    def _stop(self) -> Json:
        end = self._end
        sequence = end.stop if end is not None and isinstance(end.stop, str) else None
        if end is None or end.finish is not Finish.STOP:
            reason = "max_tokens"
        elif self._answer.has_called:
            reason = "tool_use"
        else:
            reason = "end_turn" if sequence is None else "stop_sequence"
        return {"stop_reason": reason, "stop_sequence": sequence}

    def _usage(self, tokens: int) -> Json:
        """Tokens of the prompt count as one or the other."""
        cached = self._answer.cached_tokens
        read = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": cached}
        return {"input_tokens": self._generation.prompt_tokens - cached, **read, "output_tokens": tokens}


def _kind_of(piece: Piece) -> str:
    if isinstance(piece, CallPiece):
        return _CALL
    return _THINKING if isinstance(piece, ReasoningPiece) else _TEXT


def _content(kind: str, text: str) -> Json:
    """What a block holds; nobody has signed its thoughts."""
    if kind == _CALL:
        return {"input": whole_arguments(text)}
    return {"thinking": text, "signature": ""} if kind == _THINKING else {"text": text}


def _delta(kind: str, text: str) -> Json:
    if kind == _CALL:
        return {"type": "input_json_delta", "partial_json": text}
    return {"type": f"{kind}_delta", kind: text}
