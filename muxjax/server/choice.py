"""One choice of an answer: the text and the deltas that the engine's outputs become."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from muxjax.errors import RequestError
from muxjax.server.admission.admission import Admitted
from muxjax.server.generation import Generation
from muxjax.server.telemetry.metrics import RequestMeter
from muxjax.server.text.detokenizer import Detokenizer, TextStream
from muxjax.types import Finish, Logprobs, Output


class Delta(NamedTuple):
    """One step of one choice.

    Args:
      text: new text; "" while it is held back.
      tokens: new tokens, the one that ended the choice included.
      stop_reason: the client's stop string or stop token that ended it.
      logprobs, prompt_logprobs, cached_tokens, hidden: see `types.Output`.
    """

    index: int
    text: str
    tokens: tuple[int, ...]
    finish: Finish | None
    stop_reason: str | int | None
    logprobs: Logprobs | None = None
    prompt_logprobs: tuple[Logprobs, ...] | None = None
    cached_tokens: int = 0
    hidden: bytes | None = None


class ChoiceOutput(NamedTuple):
    """An output of the engine on its way to the text of its choice."""

    choice: "Choice"
    output: Output


class Inbox:
    """Outputs for the one task that makes a generation's answer, and takes those that are there together: an `asyncio.Queue` hands out one
    at a time, at microseconds each."""

    def __init__(self):
        self._outputs: deque[ChoiceOutput] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def __bool__(self) -> bool:
        return bool(self._outputs)

    def put(self, output: ChoiceOutput) -> None:
        self._outputs.append(output)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self, most: int) -> list[ChoiceOutput]:
        """What is there, in its order, but no more than so many; waits for one where there is none."""
        if not self._outputs:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return [self._outputs.popleft() for _ in range(min(most, len(self._outputs)))]


class Choice:
    """One request's text in the making.

    Args:
      detokenizer: at the end of its prompt, and its own.
      inbox: the one that all choices of the generation share.
    """

    def __init__(
        self,
        generation: Generation,
        index: int,
        detokenizer: Detokenizer,
        inbox: Inbox,
        meter: RequestMeter,
        admitted: Admitted,
    ):
        self.inbox = inbox
        self.admitted = admitted
        self.meter = meter
        self._index = index
        self._generation = generation
        self._echo = generation.echo_of(index)
        least = generation.requests[index].sampling.min_tokens
        self._text = TextStream(detokenizer, generation.stop, include=generation.show_stop, free=least)

    def advance(self, outputs: Sequence[Output]) -> Delta:
        """What the next outputs make of it together; only the last may end it.

        Raises:
          RequestError: the model has failed, or a defect of ours.
        """
        first, output = outputs[0], outputs[-1]
        if output.finish is Finish.FAILED:
            name = self._generation.model.name
            raise RequestError(f"The model `{name}` has failed before the answer was complete.", code="model_failed", status=503)
        if output.finish is Finish.ERROR:
            raise RequestError("The server had an error while computing the answer.", code="internal_error", status=500)
        text, self._echo = self._echo, ""
        if self._generation.silent:  # its one token was asked of the engine, not by the client
            self.meter.prompt(output.at_s)
            tokens, finish, stop_reason, logprobs = (), Finish.LENGTH, None, None
        else:
            tokens = tuple(one.token for one in outputs if one.token is not None)
            self.meter.tokens([one.at_s for one in outputs if one.token is not None])
            text += self._text_of(tokens, output)
            finish = Finish.STOP if self._text.stopped is not None else output.finish
            stop_reason, logprobs = self._stop_reason(output), output.logprobs
        if finish is not None:
            self.meter.end(finish, output.at_s)
        told = first.prompt_logprobs, first.cached_tokens, first.hidden
        return Delta(self._index, text, tokens, finish, stop_reason, logprobs, *told)

    def _text_of(self, tokens: Sequence[int], output: Output) -> str:
        """A token that ends the request has no text, unless the client wants to see it."""
        hidden = output.finish is Finish.STOP and not self._generation.show_stop and output.token is not None
        text = self._text.feed(tokens[:-1] if hidden else tokens)
        ends = output.finish is not None and self._text.stopped is None
        return text + self._text.flush() if ends else text

    def _stop_reason(self, output: Output) -> str | int | None:
        if self._text.stopped is not None:
            return self._text.stopped
        return output.token if output.finish is Finish.STOP and output.token in self._generation.stop_token_ids else None
