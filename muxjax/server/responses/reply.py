"""An answer as OpenAI's response, whole or event by event."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from muxjax.errors import RequestError
from muxjax.server.answers.reply import Framing
from muxjax.server.answers.single import News, SingleAnswer
from muxjax.server.choice import Delta
from muxjax.server.generation import Generation
from muxjax.server.openai.errors import message_of
from muxjax.server.openai.logprobs import chat_logprobs
from muxjax.server.responses.output import Item, Output
from muxjax.server.responses.request import ResponseRequest
from muxjax.types import Finish

Json = dict[str, Any]


class ResponseReply:
    """An answer of /v1/responses, as of `Reply`.

    Args:
      on_end: is called with the response and the messages of its answer, once it is complete, unless an error ended it.
    """

    framing = Framing.NAMED_EVENTS

    def __init__(self, generation: Generation, request: ResponseRequest, on_end: Callable[[Json, list[Json]], None]):
        self.request = request
        self._generation, self._on_end = generation, on_end
        self._answer = SingleAnswer(generation)
        self._output = Output(generation.stamp.id)
        self._finish: Finish | None = None
        self._told = 0
        self._waiting: list[Json] = []  # events that were made as their deltas came
        self._logprobs: list[Json] = []  # of tokens that no piece has come of yet

    def add(self, delta: Delta) -> None:
        """Where log-probabilities are told, each delta by itself: a token's are with the text that it is of."""
        self._answer.add(delta)
        if self._generation.logprobs is not None:
            self._waiting += self._news()

    def whole(self, deltas: Iterable[Delta]) -> Json:
        for delta in deltas:
            self.add(delta)
            self._waiting.clear()
        for _ in chain(self._news(), self._closing()):
            pass
        return self._ended()

    def events(self) -> Iterator[Json]:
        waiting, self._waiting = self._waiting, []
        return self._numbered(chain(self._beginning() if not self._told else (), waiting, self._news()))

    def last_events(self) -> Iterator[Json]:
        return self._numbered(self._ending())

    def failure(self, error: Exception) -> Iterator[Json]:
        """The response with what was told of it, and the error."""
        return self._numbered(chain(self._beginning() if not self._told else (), [self._failed(error)]))

    def started(self, status: str) -> Json:
        """The response before there is anything of it."""
        return self._response(status, [])

    def _numbered(self, events: Iterable[Json]) -> Iterator[Json]:
        for event in events:
            self._told += 1
            yield {**event, "sequence_number": self._told - 1}

    def _beginning(self) -> Iterator[Json]:
        for kind in ("created", "in_progress"):
            yield {"type": f"response.{kind}", "response": self.started("in_progress")}

    def _news(self) -> Iterator[Json]:
        news = self._answer.take()
        if news is None:
            return
        self._logprobs += self._logprobs_of(news)
        for piece in news.pieces:
            yield from self._output.take(piece, self._logprobs)
            self._logprobs = []
        self._finish = news.finish

    def _closing(self) -> Iterator[Json]:
        yield from self._output.end(self._status, self._logprobs)

    def _ending(self) -> Iterator[Json]:
        yield from self._closing()
        yield {"type": f"response.{self._status}", "response": self._ended()}

    def _ended(self) -> Json:
        """The complete response; tells whoever keeps it."""
        response = self._response(self._status, self._output.json()) | {"usage": self._usage()}
        if self._status == "incomplete":
            response["incomplete_details"] = {"reason": "max_output_tokens"}
        self._on_end(response, answer_of(self._output.items))
        return response

    @property
    def _status(self) -> str:
        return "completed" if self._finish is Finish.STOP else "incomplete"

    def _failed(self, error: Exception) -> Json:
        response = self._response("failed", self._output.json())
        return {"type": "response.failed", "response": response | {"error": failure_of(error)}}

    def _response(self, status: str, output: list[Json]) -> Json:
        generation = self._generation
        return {
            "id": generation.stamp.id,
            "object": "response",
            "created_at": generation.stamp.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": generation.model_name,
            "output": output,
            "usage": None,
            **self.request.echo,
        }

    def _usage(self) -> Json:
        prompt, tokens = self._generation.prompt_tokens, self._answer.tokens
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": self._answer.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": tokens,
            "output_tokens_details": {"reasoning_tokens": self._answer.reasoning_tokens},
            "total_tokens": prompt + tokens,
        }

    def _logprobs_of(self, news: News) -> list[Json]:
        if self._generation.logprobs is None:
            return []
        return chat_logprobs(self._generation.model.tokenizer, news.logprobs, self._generation.logprobs)["content"]


def failure_of(error: Exception) -> Json:
    """An error as a response tells it."""
    code = error.code if isinstance(error, RequestError) else None
    return {"code": code or "server_error", "message": message_of(error)}


def answer_of(items: Iterable[Item]) -> list[Json]:
    """The output as a message of a chat, for whoever goes on with it."""
    message: Json = {"role": "assistant", "content": None}
    for item in items:
        if item.kind == "function_call":
            function = {"name": item.name, "arguments": item.whole}
            message.setdefault("tool_calls", []).append({"id": item.call_id, "type": "function", "function": function})
        else:
            name = "content" if item.kind == "message" else "reasoning_content"
            message[name] = (message.get(name) or "") + item.whole
    return [message if message["content"] is not None or "tool_calls" in message else {**message, "content": ""}]
