"""A generation's answer in OpenAI's JSON, whole or event by event."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from muxjax.server.schema import Generation
from muxjax.server.service import Delta

Json = dict[str, Any]


class Reply(ABC):
    """An answer in the making; each delta goes through `add` once."""

    kind: str
    event_kind: str

    def __init__(self, generation: Generation):
        self._generation = generation
        self._texts: list[list[str]] = [[] for _ in generation.requests]
        self._ends: list[Delta | None] = [None] * len(generation.requests)
        self._tokens = 0

    def add(self, delta: Delta) -> None:
        self._tokens += len(delta.tokens)
        self._texts[delta.index].append(delta.text)
        if delta.finish is not None:
            self._ends[delta.index] = delta

    def whole(self) -> Json:
        """The answer to a client that did not ask for a stream."""
        choices = [{"index": index, **self._content("".join(texts)), **_end(self._ends[index])} for index, texts in enumerate(self._texts)]
        return {**self._head(self.kind), "choices": choices, "usage": self.usage()}

    def events(self, delta: Delta) -> Iterator[Json]:
        """What a stream tells of a delta that was added: nothing while its text is held back."""
        for content in self._new_content(delta):
            yield self._event([{"index": delta.index, **content, **_end(None)}])
        if delta.text or delta.finish is not None:
            yield self._event([{"index": delta.index, **self._delta(delta.text), **_end(delta)}])

    def last_events(self) -> Iterator[Json]:
        """What a stream tells at its end."""
        if self._generation.usage_at_end:
            yield {**self._event([]), "usage": self.usage()}

    def usage(self) -> Json:
        prompt = self._generation.prompt_tokens
        return {"prompt_tokens": prompt, "completion_tokens": self._tokens, "total_tokens": prompt + self._tokens}

    def _event(self, choices: list[Json]) -> Json:
        event = {**self._head(self.event_kind), "choices": choices}
        if self._generation.usage_always:
            return {**event, "usage": self.usage()}
        return {**event, "usage": None} if self._generation.usage_at_end else event

    def _head(self, kind: str) -> Json:
        stamp, model = self._generation.stamp, self._generation.model
        return {
            "id": stamp.id,
            "object": kind,
            "created": stamp.created,
            "model": self._generation.asked,
            "system_fingerprint": model.fingerprint,
        }

    def _new_content(self, delta: Delta) -> Iterator[Json]:
        """What a stream tells of a choice before its first text."""
        yield from ()

    @abstractmethod
    def _content(self, text: str) -> Json: ...

    @abstractmethod
    def _delta(self, text: str) -> Json: ...


class CompletionReply(Reply):
    """Of /v1/completions."""

    kind = event_kind = "text_completion"

    def _content(self, text: str) -> Json:
        return {"text": text}

    _delta = _content


class ChatReply(Reply):
    """Of /v1/chat/completions."""

    kind = "chat.completion"
    event_kind = "chat.completion.chunk"

    def _new_content(self, delta: Delta) -> Iterator[Json]:
        if len(self._texts[delta.index]) == 1:
            yield {"delta": {"role": "assistant", "content": ""}}

    def _content(self, text: str) -> Json:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def _delta(self, text: str) -> Json:
        return {"delta": {"content": text} if text else {}}


def _end(delta: Delta | None) -> Json:
    return {
        "logprobs": None,
        "finish_reason": None if delta is None or delta.finish is None else delta.finish.value,
        "stop_reason": None if delta is None else delta.stop_reason,
    }
