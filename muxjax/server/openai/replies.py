"""A generation's answer in OpenAI's JSON, whole or event by event."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from muxjax.server.answers.choice_buffer import ChoiceBuffer, ChoiceUpdate
from muxjax.server.answers.parts import PartReader, Piece
from muxjax.server.answers.reply import Framing
from muxjax.server.choice import Delta
from muxjax.server.generation import Generation
from muxjax.server.openai.errors import error_object
from muxjax.server.openai.logprobs import chat_logprobs, completion_logprobs, prompt_logprobs
from muxjax.server.openai.tool_calls import as_function_call, delta_of, message_of
from muxjax.types import Finish

Json = dict[str, Any]


class OpenAiReply(ABC):
    """An answer in the making, as of `Reply`."""

    kind: str
    event_kind: str
    framing = Framing.EVENTS

    def __init__(self, generation: Generation):
        self._generation = generation
        self._buffers = [ChoiceBuffer(generation, index) for index in range(len(generation.requests))]
        form = generation.form
        counters = [form.reasoning_tokens() for _ in generation.requests] if form else []
        self._reasoning = [counter for counter in counters if counter]
        self._fingerprint = generation.model.fingerprint
        self._event_head = self._head(self.event_kind)
        self._tokens = 0
        self._cached = 0

    def add(self, delta: Delta) -> None:
        self._tokens += len(delta.tokens)
        if delta.index % self._generation.n == 0:  # a prompt counts once
            self._cached += delta.cached_tokens
        if self._reasoning:
            self._reasoning[delta.index].add(delta.tokens)
        self._buffers[delta.index].add(delta)

    def whole(self, deltas: Iterable[Delta]) -> Json:
        """The answer to a client that did not ask for a stream, made of all its deltas."""
        for delta in deltas:
            self.add(delta)
        updates = [buffer.take() for buffer in self._buffers]
        choices = [self._choice(update, self._content(update)) for update in updates]
        return {**self._head(self.kind), "choices": choices, "usage": self.usage(), **self._prompt_part(updates[0])}

    def events(self) -> Iterator[Json]:
        """Events of a stream for what was added since the last time: one a choice; of what has no text yet, only its first."""
        for buffer in self._buffers:
            if not buffer.has_news:
                continue
            update = buffer.take()
            begun = [{"index": update.index, **content, **_ending(None, None)} for content in self._new_content(update)]
            for choice in begun:
                yield self._event([choice], **self._prompt_part(update))
            content, begins = self._delta(update), update.first and not begun
            if any(content.values()) or update.finish is not None or self._tells_tokens or begins:
                yield self._event([self._choice(update, content)])

    def last_events(self) -> Iterator[Json]:
        """Events at the end of a stream."""
        if self._generation.usage_at_end:
            yield {**self._event([]), "usage": self.usage()}

    def failure(self, error: Exception) -> Iterator[Json]:
        """Events at the end of a stream that an error ends."""
        yield error_object(error)

    def usage(self) -> Json:
        prompt = self._generation.prompt_tokens
        usage: Json = {
            "prompt_tokens": prompt,
            "completion_tokens": self._tokens,
            "total_tokens": prompt + self._tokens,
            "prompt_tokens_details": {"cached_tokens": self._cached},
        }
        if self._reasoning:
            usage["completion_tokens_details"] = {"reasoning_tokens": sum(counter.count for counter in self._reasoning)}
        return usage

    @property
    def _tells_tokens(self) -> bool:
        """Tokens are told even where they have no text, or none yet."""
        return self._generation.logprobs is not None or self._generation.token_ids

    def _event(self, choices: list[Json], **more: object) -> Json:
        event = {**self._event_head, "choices": choices, **more}
        if self._generation.usage_always:
            return {**event, "usage": self.usage()}
        return {**event, "usage": None} if self._generation.usage_at_end else event

    def _head(self, kind: str) -> Json:
        stamp = self._generation.stamp
        return {
            "id": stamp.id,
            "object": kind,
            "created": stamp.created,
            "model": self._generation.model_name,
            "system_fingerprint": self._fingerprint,
        }

    def _choice(self, update: ChoiceUpdate, content: Json) -> Json:
        choice = {"index": update.index, **content, **_ending(self._finish(update), update.stop_reason)}
        if self._generation.logprobs is not None:
            choice["logprobs"] = self._logprobs(update)
        return {**choice, "token_ids": list(update.tokens)} if self._generation.token_ids else choice

    def _prompt_fields(self, update: ChoiceUpdate) -> Json:
        """Fields of a prompt, beside its choices or in them."""
        generation, fields = self._generation, {}
        if generation.token_ids:
            fields["prompt_token_ids"] = list(generation.requests[update.index].prompt)
        if generation.prompt_logprobs is not None:
            fields["prompt_logprobs"] = prompt_logprobs(generation.model.tokenizer, update.prompt_logprobs, generation.prompt_logprobs)
        return fields

    def _finish(self, update: ChoiceUpdate) -> str | None:
        return None if update.finish is None else update.finish.value

    def _new_content(self, update: ChoiceUpdate) -> Iterator[Json]:
        """Content of a stream's events before a choice's first text."""
        yield from ()

    def _prompt_part(self, update: ChoiceUpdate) -> Json:
        """Fields of the prompt beside the choices."""
        return {}

    @abstractmethod
    def _content(self, update: ChoiceUpdate) -> Json: ...

    @abstractmethod
    def _delta(self, update: ChoiceUpdate) -> Json: ...

    @abstractmethod
    def _logprobs(self, update: ChoiceUpdate) -> Json: ...


class CompletionReply(OpenAiReply):
    """An answer of /v1/completions."""

    kind = event_kind = "text_completion"

    def _content(self, update: ChoiceUpdate) -> Json:
        return {"text": update.text, **(self._prompt_fields(update) if update.first else {})}

    _delta = _content

    def _logprobs(self, update: ChoiceUpdate) -> Json:
        return completion_logprobs(self._generation.model.tokenizer, update.logprobs, self._generation.logprobs or 0)


class ChatReply(OpenAiReply):
    """An answer of /v1/chat/completions."""

    kind = "chat.completion"
    event_kind = "chat.completion.chunk"

    def __init__(self, generation: Generation):
        super().__init__(generation)
        form = generation.form
        self._readers: list[PartReader] = [form.reader() for _ in generation.requests] if form else []

    def _new_content(self, update: ChoiceUpdate) -> Iterator[Json]:
        if update.first:
            yield {"delta": {"role": "assistant", "content": None if self._must_call else ""}}

    def _prompt_part(self, update: ChoiceUpdate) -> Json:
        return self._prompt_fields(update)

    def _content(self, update: ChoiceUpdate) -> Json:
        parts: Json = message_of(self._pieces(update), self._id(update)) if self._readers else {"content": update.text}
        if self._must_call:
            parts = {**parts, "content": None}
        return {"message": {"role": "assistant", "refusal": None, **self._told(parts)}}

    def _delta(self, update: ChoiceUpdate) -> Json:
        if not self._readers:
            return {"delta": {"content": update.text} if update.text else {}}
        return {"delta": self._told(delta_of(self._pieces(update), self._id(update)))}

    def _told(self, parts: Json) -> Json:
        return as_function_call(parts) if self._generation.legacy_functions else parts

    def _pieces(self, update: ChoiceUpdate) -> list[Piece]:
        reader = self._readers[update.index]
        pieces = reader.feed(update.text)
        return pieces if update.finish is None else [*pieces, *reader.end()]

    def _id(self, update: ChoiceUpdate) -> str:
        """Of a choice, unlike any other."""
        return f"{self._generation.stamp.id}-{update.index}"

    @property
    def _must_call(self) -> bool:
        form = self._generation.form
        return form is not None and form.must_call

    def _logprobs(self, update: ChoiceUpdate) -> Json:
        return chat_logprobs(self._generation.model.tokenizer, update.logprobs, self._generation.logprobs or 0)

    def _finish(self, update: ChoiceUpdate) -> str | None:
        """OpenAI says "tool_calls" only where the model could choose among tools; a stop string may come before or in a call."""
        form = self._generation.form
        chosen = form is not None and form.tools is not None and form.tools.named is None and self._readers[update.index].has_called
        if update.finish is not Finish.STOP or not chosen:
            return super()._finish(update)
        return "function_call" if self._generation.legacy_functions else "tool_calls"


def _ending(finish: str | None, stop_reason: str | int | None) -> Json:
    return {"logprobs": None, "finish_reason": finish, "stop_reason": stop_reason}
