"""An answer as Ollama's, whole or line by line."""

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from muxjax.server.answers.parts import CallPiece, Piece, gathered, whole_arguments
from muxjax.server.answers.reply import Framing
from muxjax.server.answers.single import SingleAnswer
from muxjax.server.choice import Delta
from muxjax.server.generation import Generation
from muxjax.server.ollama.errors import error_object
from muxjax.types import Finish

Json = dict[str, Any]


class OllamaReply:
    """An answer of /api/chat or /api/generate, as of `Reply`. Calls of tools are told when they are whole.

    Args:
      model: as the client called it.
    """

    framing = Framing.LINES

    def __init__(self, generation: Generation, model: str, *, chat: bool, clock: Callable[[], float] = time.monotonic):
        self._generation, self._model, self._chat, self._clock = generation, model, chat, clock
        self._answer = SingleAnswer(generation)
        self._calls: list[CallPiece] = []
        self._first_s: float | None = None
        self._finish: Finish | None = None

    def add(self, delta: Delta) -> None:
        self._first_s = self._first_s or self._clock()
        self._answer.add(delta)

    def whole(self, deltas: Iterable[Delta]) -> Json:
        for delta in deltas:
            self.add(delta)
        return self._head() | self._content(self._news()) | self._end()

    def events(self) -> Iterator[Json]:
        pieces = [piece for piece in self._news() if not isinstance(piece, CallPiece)]
        if pieces:
            yield self._head() | self._content(pieces) | {"done": False}

    def last_events(self) -> Iterator[Json]:
        if self._calls:
            yield self._head() | self._content(self._calls) | {"done": False}
        yield self._head() | self._content([]) | self._end()

    def failure(self, error: Exception) -> Iterator[Json]:
        yield error_object(error)

    def _news(self) -> list[Piece]:
        news = self._answer.take()
        if news is None:
            return []
        self._finish = news.finish
        self._calls += [piece for piece in news.pieces if isinstance(piece, CallPiece)]
        return news.pieces

    def _head(self) -> Json:
        return {"model": self._model, "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}

    def _content(self, pieces: Iterable[Piece]) -> Json:
        text, reasoning, called = gathered(pieces)
        thought = {"thinking": reasoning} if reasoning else {}
        if not self._chat:
            return {"response": text, **thought}
        calls = [{"function": {"name": call.name, "arguments": whole_arguments(call.arguments)}} for call in called]
        return {"message": {"role": "assistant", "content": text, **thought, **({"tool_calls": calls} if calls else {})}}

    def _end(self) -> Json:
        """Why it ended, and its counts; times in nanoseconds."""
        now_s, begin_s = self._clock(), self._generation.stamp.arrival_s
        first_s = self._first_s or now_s
        return {
            "done": True,
            "done_reason": "stop" if self._finish is Finish.STOP else "length",
            "total_duration": _ns(now_s - begin_s),
            "load_duration": 0,
            "prompt_eval_count": self._generation.prompt_tokens,
            "prompt_eval_duration": _ns(first_s - begin_s),
            "eval_count": self._answer.tokens,
            "eval_duration": _ns(now_s - first_s),
        }


def _ns(seconds: float) -> int:
    return max(0, round(seconds * 1e9))
