"""What a streamed completion or chat answered: when its tokens came, how many, and how it ended."""

import json
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from muxjax.bench.client.exchange import Pieces, lines, status_of

SLICE = 64
"""Events that are read at a time."""
_MOST_TOLD = 300


@dataclass(slots=True, kw_only=True)
class Answer:
    """An answer, as far as it was read.

    Args:
      status: HTTP's, 0 where there is none.
      events_s: when each event came that stands for a token; several tokens may be one event.
      prompt_tokens, output_tokens: as the server counts, None where it does not tell.
      error: what was wrong, "" if nothing was.
    """

    status: int
    events_s: list[float] = field(default_factory=list)
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    error: str = ""


class _Delta(msgspec.Struct):
    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: Any = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_DECODER = msgspec.json.Decoder(_Event)


def read(pieces: Pieces) -> Generator[None, None, Answer]:
    """The answer in what a connection brought; pauses after each SLICE of events, for whoever has more urgent things to do."""
    answer = Answer(status=status_of(pieces))
    if answer.status != 200:
        answer.error = _refusal(pieces)
        return answer
    ended, closed_s = False, 0.0
    try:
        for number, (at_s, line) in enumerate(lines(pieces), start=1):
            if line.startswith(b"data:"):
                ended, closed_s = _take(answer, at_s, line[5:].strip()) or ended, closed_s if ended else at_s
            if not number % (2 * SLICE):  # an event and the blank line after it
                yield
    except ValueError as error:  # msgspec's is one
        answer.error = f"no stream of events: {error}"[:_MOST_TOLD]
    if not answer.error and not ended:
        answer.error = "the stream broke off" if answer.events_s else f"no stream of events, but {_refusal(pieces)}"
    if ended and answer.output_tokens and not answer.events_s:  # its first token ended it, which came with the event that closes it
        answer.events_s.append(closed_s)
    return answer


def _take(answer: Answer, at_s: float, data: bytes) -> bool:
    """Whether the stream has come to its end."""
    if data == b"[DONE]":
        return True
    event = _DECODER.decode(data)
    if event.error is not None:
        answer.error = _told(event.error)
    if event.usage is not None:
        answer.prompt_tokens, answer.output_tokens = event.usage.prompt_tokens, event.usage.completion_tokens
    if any(_has_token(choice) for choice in event.choices):
        answer.events_s.append(at_s)
    return any(choice.finish_reason for choice in event.choices)


def _has_token(choice: _Choice) -> bool:
    """A token may show no text yet; what has none and opens or closes the answer is no token."""
    delta = choice.delta
    if delta is None:
        return bool(choice.text) or not choice.finish_reason
    shown = delta.content or delta.reasoning_content or delta.reasoning or delta.tool_calls
    return bool(shown) or not (choice.finish_reason or delta.role)


def _refusal(pieces: Pieces) -> str:
    """What an answer that is no stream says."""
    try:
        body = b"\n".join(line for _, line in lines(pieces))
    except ValueError:
        body = b""
    if not status_of(pieces):
        return "no answer in HTTP" if pieces else "the connection ended without an answer"
    try:
        return _told(json.loads(body)["error"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return body.decode(errors="replace").strip()[:_MOST_TOLD] or f"status {status_of(pieces)}"


def _told(error: Any) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or error)[:_MOST_TOLD]
