"""One client's request, checked: what the service computes and how its answer is told."""

import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from muxjax.server.admission.lines import line_of
from muxjax.server.admission.tenants import ANYONE, Tenant
from muxjax.server.answers.form import AnswerForm
from muxjax.server.catalog import ServedModel
from muxjax.server.text.detokenizer import Detokenizer
from muxjax.server.text.tokenizer import detokenizer_of
from muxjax.types import Request, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """The server's additions to a client's request.

    Args:
      id: the answer's, unlike any other.
      created: Unix time in seconds.
      arrival_s: on the engine's clock.
      seed: the one of a request that names none.
      tenant: whose key it came with.
      client: name of the sender's line, as of `Request`.
      tells_usage: a stream counts its tokens at its end, whether or not its client asks for that.
    """

    id: str
    created: int
    arrival_s: float
    seed: int
    tenant: Tenant = ANYONE
    client: str = ""
    tells_usage: bool = False

    @classmethod
    def new(cls, id_prefix: str, tenant: Tenant = ANYONE, client: str = "", *, tells_usage: bool = False) -> "Stamp":
        """A stamp of this moment."""
        name, seed = f"{id_prefix}{uuid.uuid4().hex}", random.getrandbits(62)
        created, arrival_s = int(time.time()), time.monotonic()
        return cls(id=name, created=created, arrival_s=arrival_s, seed=seed, tenant=tenant, client=client, tells_usage=tells_usage)

    def request(
        self, index: int, model: ServedModel, prompt: tuple[int, ...], sampling: Sampling, *, priority: int, cache_salt: str
    ) -> Request:
        """The engine's request of that place among those of the client's."""
        return Request(
            id=f"{self.id}-{index}",
            model=model.base,
            adapter=model.adapter,
            prompt=prompt,
            sampling=sampling,
            arrival_s=self.arrival_s,
            priority=priority,
            tenant=self.tenant.name,
            client=self.client,
            weight=self.tenant.weight,
            cache_salt=cache_salt,
        )

    @property
    def line(self) -> str:
        """Name of those whose work takes turns as one."""
        return line_of(self.tenant, self.client)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One client's request: n samples of each prompt, and how it wants them told.

    Args:
      model_name: the name by which the client called the model.
      requests: sample j of prompt i at i * n + j, which is the choice's index.
      stop_token_ids: the client's, without the model's own.
      show_stop: what ended a choice is part of its text.
      show_special: so are special tokens.
      silent: nothing is to be generated; each request has one token that is not told.
      echo: the text of each prompt that goes before its answers; empty without an echo.
      logprobs, prompt_logprobs: number of the most likely tokens are told; None tells nothing.
      token_ids: tokens are told by number as well.
      form: parts that an answer may have beside its text; None for text alone.
      legacy_functions: its call is told as that of a function, as it was before there were tools.
      usage_at_end, usage_always: events of a stream that count tokens.
      unknown: fields that were not understood.
    """

    stamp: Stamp
    model: ServedModel
    model_name: str
    requests: tuple[Request, ...]
    n: int
    stop: tuple[str, ...]
    stop_token_ids: frozenset[int]
    show_stop: bool
    show_special: bool
    silent: bool
    echo: tuple[str, ...]
    logprobs: int | None
    prompt_logprobs: int | None
    token_ids: bool
    form: AnswerForm | None
    legacy_functions: bool
    stream: bool
    usage_at_end: bool
    usage_always: bool
    unknown: tuple[str, ...]

    @classmethod
    def silent_one(
        cls, stamp: Stamp, model: ServedModel, model_name: str, requests: tuple[Request, ...], unknown: tuple[str, ...]
    ) -> "Generation":
        """One of whose requests only what is known of their prompts is told."""
        return cls(
            stamp=stamp,
            model=model,
            model_name=model_name,
            requests=requests,
            n=1,
            stop=(),
            stop_token_ids=frozenset(),
            show_stop=False,
            show_special=False,
            silent=True,
            echo=(),
            logprobs=None,
            prompt_logprobs=None,
            token_ids=False,
            form=None,
            legacy_functions=False,
            stream=False,
            usage_at_end=False,
            usage_always=False,
            unknown=unknown,
        )

    @property
    def tells_each(self) -> bool:
        """Something depends on where a token ends: its log-probabilities, or a stop string, behind which there is none."""
        return self.logprobs is not None or bool(self.stop)

    @property
    def prompt_tokens(self) -> int:
        """Each prompt counted once."""
        return sum(len(request.prompt) for request in self.requests[:: self.n])

    def detokenizer(self, prompt: Sequence[int]) -> Detokenizer:
        """Of an answer to that prompt, with the marks by which its form tells parts from each other."""
        shown = {mark.text for mark in self.form.marks} if self.form is not None else ()
        return detokenizer_of(self.model.tokenizer, prompt, special=self.show_special, shown=shown)

    def echo_of(self, index: int) -> str:
        """The beginning of a choice's text."""
        return self.echo[index // self.n] if self.echo else ""
