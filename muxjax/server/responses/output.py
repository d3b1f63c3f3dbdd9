"""Items of a response's output as pieces of text come, with the events that tell of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from muxjax.server.answers.parts import CallPiece, Piece, ReasoningPiece, TextPiece, part_digest

Json = dict[str, Any]
_MESSAGE, _REASONING, _CALL = "message", "reasoning", "function_call"
_TEXT_EVENTS = {_MESSAGE: "response.output_text", _REASONING: "response.reasoning_text", _CALL: "response.function_call_arguments"}
_ID_PREFIXES = {_MESSAGE: "msg_", _REASONING: "rs_", _CALL: "fc_"}


@dataclass(slots=True, kw_only=True)
class Item:
    """One of them in the making.

    Args:
      kind: its type; id: its own; call_id, name: of a call.
      logprobs: of a message's tokens, where they were asked for.
    """

    kind: str
    id: str
    call_id: str = ""
    name: str = ""
    text: list[str] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)
    status: str = "in_progress"

    @property
    def whole(self) -> str:
        """All of its text so far, or of its arguments."""
        return "".join(self.text)

    @property
    def part(self) -> Json:
        """The only part of its content, of an item that has one."""
        if self.kind == _REASONING:
            return {"type": "reasoning_text", "text": self.whole}
        return {"type": "output_text", "text": self.whole, "annotations": [], "logprobs": list(self.logprobs)}

    def json(self) -> Json:
        common = {"id": self.id, "type": self.kind, "status": self.status}
        if self.kind == _CALL:
            return {**common, "call_id": self.call_id, "name": self.name, "arguments": self.whole}
        content = [self.part] if self.text or self.status != "in_progress" else []
        if self.kind == _REASONING:
            return {**common, "summary": [], "content": content, "encrypted_content": None}
        return {**common, "role": "assistant", "content": content}


class Output:
    """The items of one response: each piece goes on with the open one, or begins another.

    Args:
      response_id: of which the ids of items are made.
    """

    def __init__(self, response_id: str):
        self._response_id = response_id
        self.items: list[Item] = []

    def take(self, piece: Piece, logprobs: Sequence[Json] = ()) -> Iterator[Json]:
        """Events of a piece, and of the log-probabilities that came with it."""
        kind = _kind_of(piece)
        item = self._open
        if item is None or item.kind != kind or (isinstance(piece, CallPiece) and piece.name is not None):
            yield from self.close("completed")
            item = self._begun(kind, piece)
            yield from self._opening(item)
            logprobs = _last_of(logprobs, piece.text) if isinstance(piece, TextPiece) and len(self.items) > 1 else logprobs
        text = piece.arguments if isinstance(piece, CallPiece) else piece.text
        if text:
            item.text.append(text)
            item.logprobs += logprobs if kind == _MESSAGE else ()
            told = {"logprobs": list(logprobs)} if kind == _MESSAGE else {}
            yield self._event(f"{_TEXT_EVENTS[kind]}.delta", item, delta=text, **told)

    def close(self, status: str) -> Iterator[Json]:
        """Ends the open item, if there is one."""
        item = self._open
        if item is None:
            return
        item.status = status
        if item.kind == _CALL:
            yield self._event("response.function_call_arguments.done", item, arguments=item.whole, name=item.name)
        else:
            told = {"logprobs": list(item.logprobs)} if item.kind == _MESSAGE else {}
            yield self._event(f"{_TEXT_EVENTS[item.kind]}.done", item, text=item.whole, **told)
            yield self._event("response.content_part.done", item, part=item.part)
        yield {"type": "response.output_item.done", "output_index": len(self.items) - 1, "item": item.json()}

    def end(self, status: str, logprobs: Sequence[Json] = ()) -> Iterator[Json]:
        """Ends the last item; an answer of nothing is a message without text.

        Args:
          logprobs: of tokens that are no text, as the one that ends an answer; a message has them.
        """
        if not self.items:
            yield from self.take(TextPiece(""))
        if self._open and self._open.kind == _MESSAGE:
            self._open.logprobs += logprobs
        yield from self.close(status)

    def json(self) -> list[Json]:
        return [item.json() for item in self.items]

    @property
    def _open(self) -> Item | None:
        return self.items[-1] if self.items and self.items[-1].status == "in_progress" else None

    def _begun(self, kind: str, piece: Piece) -> Item:
        digest = part_digest(self._response_id, len(self.items))[:32]
        item = Item(kind=kind, id=_ID_PREFIXES[kind] + digest)
        if isinstance(piece, CallPiece):
            item.call_id, item.name = f"call_{digest[:24]}", piece.name or ""
        self.items.append(item)
        return item

    def _opening(self, item: Item) -> Iterator[Json]:
        yield {"type": "response.output_item.added", "output_index": len(self.items) - 1, "item": item.json()}
        if item.kind != _CALL:
            yield self._event("response.content_part.added", item, part=item.part)

    def _event(self, kind: str, item: Item, **more: object) -> Json:
        place = {} if item.kind == _CALL else {"content_index": 0}
        return {"type": kind, "item_id": item.id, "output_index": len(self.items) - 1, **place, **more}


def _last_of(logprobs: Sequence[Json], text: str) -> Sequence[Json]:
    """Those of the text, without those of marks before it that end reasoning or a call."""
    left, place = len(text.encode()), len(logprobs)
    while left > 0 and place > 0:
        place -= 1
        left -= len(logprobs[place]["bytes"] or ())
    return logprobs[place:]


def _kind_of(piece: Piece) -> str:
    if isinstance(piece, CallPiece):
        return _CALL
    return _REASONING if isinstance(piece, ReasoningPiece) else _MESSAGE
