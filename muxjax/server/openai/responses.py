"""A generation's answer in OpenAI's JSON, whole or event by event."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from muxjax.server.choice import Delta
from muxjax.server.generation import Generation
from muxjax.server.openai.choice_buffer import ChoiceBuffer, ChoiceUpdate
from muxjax.server.openai.logprobs import chat_logprobs, completion_logprobs, prompt_logprobs
from muxjax.server.openai.tool_calls import CallPiece, CallReader, call_deltas, call_reader, whole_calls
from muxjax.types import Finish

Json = dict[str, Any]


class Reply(ABC):
    """An answer in the making; each delta goes through `add` once."""

    kind: str
    event_kind: str

    def __init__(self, generation: Generation):
        self._generation = generation
        self._news = [ChoiceBuffer(generation, index) for index in range(len(generation.requests))]
        self._fingerprint = generation.model.fingerprint
        self._tokens = 0
        self._cached = 0

    def add(self, delta: Delta) -> None:
        self._tokens += len(delta.tokens)
        if delta.index % self._generation.n == 0:  # a prompt counts once
            self._cached += delta.cached_tokens
        self._news[delta.index].add(delta)

    def whole(self, deltas: Iterable[Delta]) -> Json:
        """The answer to a client that did not ask for a stream, made of all its deltas."""
        for delta in deltas:
            self.add(delta)
        pieces = [news.take() for news in self._news]
        choices = [self._choice(piece, self._content(piece)) for piece in pieces]
        return {**self._head(self.kind), "choices": choices, "usage": self.usage(), **self._of_prompt(pieces[0])}

    def events(self, delta: Delta) -> Iterator[Json]:
        """What a stream tells of a delta that was added: nothing while its text is held back."""
        if not delta.text and delta.finish is None:
            return
        piece = self._news[delta.index].take()
        for content in self._new_content(piece):
            yield self._event([{"index": piece.index, **content, **_ending(None, None)}], **self._of_prompt(piece))
        yield self._event([self._choice(piece, self._delta(piece))])

    def last_events(self) -> Iterator[Json]:
        """What a stream tells at its end."""
        if self._generation.usage_at_end:
            yield {**self._event([]), "usage": self.usage()}

    def usage(self) -> Json:
        prompt = self._generation.prompt_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._tokens,
            "total_tokens": prompt + self._tokens,
            "prompt_tokens_details": {"cached_tokens": self._cached},
        }

    def _event(self, choices: list[Json], **more: object) -> Json:
        event = {**self._head(self.event_kind), "choices": choices, **more}
        if self._generation.usage_always:
            return {**event, "usage": self.usage()}
        return {**event, "usage": None} if self._generation.usage_at_end else event

    def _head(self, kind: str) -> Json:
        stamp = self._generation.stamp
        return {
            "id": stamp.id,
            "object": kind,
            "created": stamp.created,
            "model": self._generation.asked,
            "system_fingerprint": self._fingerprint,
        }

    def _choice(self, piece: ChoiceUpdate, content: Json) -> Json:
        choice = {"index": piece.index, **content, **_ending(self._finish(piece), piece.stop_reason)}
        if self._generation.logprobs is not None:
            choice["logprobs"] = self._logprobs(piece)
        return {**choice, "token_ids": list(piece.tokens)} if self._generation.token_ids else choice

    def _prompt_fields(self, piece: ChoiceUpdate) -> Json:
        """What is told of a prompt beside its choices, or in them."""
        generation, fields = self._generation, {}
        if generation.token_ids:
            fields["prompt_token_ids"] = list(generation.requests[piece.index].prompt)
        if generation.prompt_logprobs is not None:
            fields["prompt_logprobs"] = prompt_logprobs(generation.model.text, piece.prompt_logprobs, generation.prompt_logprobs)
        return fields

    def _finish(self, piece: ChoiceUpdate) -> str | None:
        return None if piece.finish is None else piece.finish.value

    def _new_content(self, piece: ChoiceUpdate) -> Iterator[Json]:
        """What a stream tells of a choice before its first text."""
        yield from ()

    def _of_prompt(self, piece: ChoiceUpdate) -> Json:
        """What is told of the prompt beside the choices."""
        return {}

    @abstractmethod
    def _content(self, piece: ChoiceUpdate) -> Json: ...

    @abstractmethod
    def _delta(self, piece: ChoiceUpdate) -> Json: ...

    @abstractmethod
    def _logprobs(self, piece: ChoiceUpdate) -> Json: ...


class CompletionReply(Reply):
    """Of /v1/completions."""

    kind = event_kind = "text_completion"

    def _content(self, piece: ChoiceUpdate) -> Json:
        return {"text": piece.text, **(self._prompt_fields(piece) if piece.first else {})}

    _delta = _content

    def _logprobs(self, piece: ChoiceUpdate) -> Json:
        return completion_logprobs(self._generation.model.text, piece.told, self._generation.logprobs or 0)


class ChatReply(Reply):
    """Of /v1/chat/completions."""

    kind = "chat.completion"
    event_kind = "chat.completion.chunk"

    def __init__(self, generation: Generation):
        super().__init__(generation)
        use = generation.tools
        self._readers: list[CallReader] = [call_reader(use) for _ in generation.requests] if use else []

    def _new_content(self, piece: ChoiceUpdate) -> Iterator[Json]:
        if piece.first:
            yield {"delta": {"role": "assistant", "content": None if self._readers else ""}}

    def _of_prompt(self, piece: ChoiceUpdate) -> Json:
        return self._prompt_fields(piece)

    def _content(self, piece: ChoiceUpdate) -> Json:
        if not self._readers:
            return {"message": {"role": "assistant", "content": piece.text, "refusal": None}}
        calls = self._calls(piece, whole_calls)
        return {"message": {"role": "assistant", "content": None, "refusal": None, **calls}}

    def _delta(self, piece: ChoiceUpdate) -> Json:
        if not self._readers:
            return {"delta": {"content": piece.text} if piece.text else {}}
        return {"delta": self._calls(piece, call_deltas)}

    def _calls(self, piece: ChoiceUpdate, told: Callable[[list[CallPiece], str], list[Json]]) -> Json:
        calls = told(self._readers[piece.index].feed(piece.text), f"{self._generation.stamp.id}-{piece.index}")
        return {"tool_calls": calls} if calls else {}

    def _logprobs(self, piece: ChoiceUpdate) -> Json:
        return chat_logprobs(self._generation.model.text, piece.told, self._generation.logprobs or 0)

    def _finish(self, piece: ChoiceUpdate) -> str | None:
        """OpenAI says "tool_calls" only where the model could choose among tools."""
        use = self._generation.tools
        return "tool_calls" if piece.finish is Finish.STOP and use and not use.named else super()._finish(piece)


def _ending(finish: str | None, stop_reason: str | int | None) -> Json:
    return {"logprobs": None, "finish_reason": finish, "stop_reason": stop_reason}
