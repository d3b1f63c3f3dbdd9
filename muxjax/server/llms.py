"""Several models for a script, without HTTP."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muxjax.server.answers.parts import Parts, ToolCall, gathered
from muxjax.server.background import BackgroundLoop
from muxjax.server.build import build_service
from muxjax.server.choice import Delta
from muxjax.server.config import named_options
from muxjax.server.generation import Generation, Stamp
from muxjax.server.openai.schema import parse_chat, parse_completion
from muxjax.server.service import Service
from muxjax.types import Finish, Logprobs

Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer.

    Args:
      prompt_tokens: number of the prompt's.
      tokens: the generated ones, the one that ended the answer included.
      stop_reason: the stop string or stop token that ended it.
      logprobs: those of each token, where they were asked for.
      prompt_logprobs: those of the prompt's tokens from the second on, where they or an echo with logprobs were asked for.
      text: all that the model wrote; calls and reasoning are in it as it wrote them.
      tool_calls: calls of the tools that were offered.
      reasoning: what it thought before it answered.
    """

    model: str
    text: str
    prompt_tokens: int
    tokens: tuple[int, ...]
    finish: Finish
    stop_reason: str | int | None
    logprobs: tuple[Logprobs, ...] = ()
    prompt_logprobs: tuple[Logprobs, ...] = ()
    cached_tokens: int = 0
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""


class LLMs:
    """Models that share one device and one cache, ready when built.

    ```
    with LLMs({"small": "models/small", "large": "models/large"}) as llms:
        print(llms.generate("small", ["Once upon a time"], max_tokens=64)[0].text)
    ```

    Args:
      models: folder of each, by name.
      options: fields of `UnitOptions` and `ModelOptions`; the latter hold for every model.
    Raises:
      ConfigError, CheckpointError: a model cannot be served.
    """

    def __init__(self, models: Mapping[str, str | Path], **options: object):
        self._open(build_service(named_options(models, options), report=_to_stderr))

    @classmethod
    def over(cls, service: Service) -> "LLMs":
        """Models of a service that has not been started."""
        llms = cls.__new__(cls)
        llms._open(service)
        return llms

    def _open(self, service: Service) -> None:
        self._service = service
        with contextlib.ExitStack() as stack:
            self._loop = stack.enter_context(contextlib.closing(BackgroundLoop()))
            stack.enter_context(self._loop.within(service.running()))
            self._resources = stack.pop_all()

    def generate(self, model: str, prompts: Prompt | Sequence[Prompt], **sampling: object) -> list[Completion]:
        """Answers in the order of the prompts, all computed at once; with n over 1, n of each prompt in a row.

        Args:
          prompts: one or a list of: a text, token ids, or the messages of a chat.
          sampling: fields of the HTTP interface, such as max_tokens, temperature, seed, stop, n, logprobs, response_format, tools.
        Raises:
          RequestError: a prompt or a field is wrong.
        """
        return self.generate_pairs([(model, prompt) for prompt in _listed(prompts)], **sampling)

    def generate_pairs(self, pairs: Iterable[tuple[str, Prompt]], **sampling: object) -> list[Completion]:
        """Answers to (model, prompt) pairs, across models at once; see `generate`."""
        return self.answers((model, prompt, sampling) for model, prompt in pairs)

    def answers(
        self, asked: Iterable[tuple[str, Prompt, Mapping[str, object]]], *, ended: Callable[[], object] = lambda: None
    ) -> list[Completion]:
        """Answers to (model, prompt, sampling), each with a sampling of its own, across models at once; see `generate`.

        Args:
          ended: is called, in another thread, whenever one of them has all its answers.
        """
        generations = [self._parse(model, prompt, sampling) for model, prompt, sampling in asked]
        return self._loop.run(self._answers(generations, ended))

    def chat(self, model: str, messages: Sequence[Mapping[str, Any]], **sampling: object) -> Completion:
        """The assistant's answer to the messages of a chat."""
        return self.generate_pairs([(model, messages)], **sampling)[0]

    def close(self) -> None:
        """Gives everything back; running requests end with an error."""
        self._resources.close()

    def __enter__(self) -> "LLMs":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _parse(self, model: str, prompt: Prompt, sampling: Mapping[str, object]) -> Generation:
        catalog = self._service.catalog
        if _is_chat(prompt):
            return parse_chat({**sampling, "model": model, "messages": list(prompt)}, catalog, Stamp.new("chat-"))
        ready = prompt if isinstance(prompt, str) else list(prompt)
        return parse_completion({**sampling, "model": model, "prompt": ready}, catalog, Stamp.new("text-"))

    async def _answers(self, generations: Sequence[Generation], ended: Callable[[], object]) -> list[Completion]:
        tasks = [asyncio.create_task(self._answer(generation)) for generation in generations]
        for task in tasks:
            task.add_done_callback(lambda _: ended())
        try:
            return [completion for answer in await asyncio.gather(*tasks) for completion in answer]
        finally:
            for task in tasks:
                task.cancel()

    async def _answer(self, generation: Generation) -> list[Completion]:
        choices: list[list[Delta]] = [[] for _ in generation.requests]
        for delta in await self._service.whole(generation):
            choices[delta.index].append(delta)
        return [_completion(generation, index, deltas) for index, deltas in enumerate(choices)]


def _completion(generation: Generation, index: int, deltas: Sequence[Delta]) -> Completion:
    first, last = deltas[0], deltas[-1]
    text = "".join(delta.text for delta in deltas)
    assert last.finish is not None
    parts = _parts(generation, text)
    return Completion(
        model=generation.model.name,
        text=text,
        prompt_tokens=len(generation.requests[index].prompt),
        tokens=tuple(token for delta in deltas for token in delta.tokens),
        finish=last.finish,
        stop_reason=last.stop_reason,
        logprobs=tuple(delta.logprobs for delta in deltas if delta.logprobs),
        prompt_logprobs=first.prompt_logprobs or (),
        cached_tokens=first.cached_tokens,
        tool_calls=parts.calls,
        reasoning=parts.reasoning,
    )


def _parts(generation: Generation, text: str) -> Parts:
    if generation.form is None:
        return Parts(text, "", ())
    reader = generation.form.reader()
    return gathered([*reader.feed(text), *reader.end()])


def _is_chat(prompt: Any) -> bool:
    return not isinstance(prompt, str) and bool(prompt) and isinstance(prompt[0], Mapping)


def _listed(prompts: Any) -> Sequence[Prompt]:
    """One prompt is a list of one."""
    single = isinstance(prompts, str) or _is_chat(prompts) or (bool(prompts) and isinstance(prompts[0], int))
    return [prompts] if single else prompts


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)
