"""Parts of an answer's text in the JSON of chats."""

from collections.abc import Iterable
from typing import Any

from muxjax.server.answers.parts import CallPiece, Piece, ReasoningPiece, ToolCall, gathered, part_digest

Json = dict[str, Any]


def delta_of(pieces: Iterable[Piece], answer: str) -> Json:
    """What pieces add to a message, as an event tells it; the calls of each `answer` get ids of their own."""
    delta: Json = {}
    for piece in pieces:
        if isinstance(piece, CallPiece):
            delta.setdefault("tool_calls", []).append(_call_delta(piece, answer))
        else:
            name = "reasoning_content" if isinstance(piece, ReasoningPiece) else "content"
            delta[name] = delta.get(name, "") + piece.text
    return delta


def message_of(pieces: Iterable[Piece], answer: str) -> Json:
    """Fields of a message that has all parts; its content is null where it has calls alone."""
    text, reasoning, calls = gathered(pieces)
    fields: Json = {"content": text if text or not calls else None}
    if reasoning:
        fields["reasoning_content"] = reasoning
    if calls:
        fields["tool_calls"] = [_call(index, call, answer) for index, call in enumerate(calls)]
    return fields


def as_function_call(fields: Json) -> Json:
    """The fields with their first call as it was told before there were tools, of which there is one."""
    calls = fields.get("tool_calls")
    if not calls:
        return fields
    function: Json = {}
    for call in calls:
        arguments = function.get("arguments", "") + call["function"]["arguments"]
        function = {**function, **call["function"], "arguments": arguments}
    return {**{name: value for name, value in fields.items() if name != "tool_calls"}, "function_call": function}


def _call_delta(piece: CallPiece, answer: str) -> Json:
    if piece.name is None:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    return {"index": piece.index, **_call(piece.index, ToolCall(piece.name, piece.arguments), answer)}


def _call(index: int, call: ToolCall, answer: str) -> Json:
    id = "call_" + part_digest(answer, index)[:24]
    return {"id": id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
