"""Values that cross package borders."""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from muxjax.errors import RequestError

Ints = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Bits = npt.NDArray[np.uint32]
"""Arrays of the host zone by what they hold; names' shape letters say their shapes. `Bits` are masks of 32 tokens a word."""

MOST_LOGPROBS = 20
"""Most likely tokens whose log-probabilities a request may want."""
MOST_PRIORITY = 100
"""Largest priority, above or below 0."""
PRIORITY_S = 10.0
"""A request goes before those that came up to so much before it, for each level of priority."""


class Phase(enum.StrEnum):
    """Work of a row of a step: tokens that are known, or one more token of a sequence. A step with rows of both is a prefill."""

    PREFILL = "prefill"
    DECODE = "decode"


class Finish(enum.StrEnum):
    """Why a request ended."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    FAILED = "failed"
    """Its model has, and serves nobody any more."""
    ERROR = "error"
    """A defect of ours that it alone has met."""


class GrammarKind(enum.StrEnum):
    """Notation of a grammar."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    LARK = "lark"


class Pooling(enum.StrEnum):
    """How the hidden states of a prompt become one: that of its last token, or the mean of all."""

    LAST = "last"
    MEAN = "mean"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """Form of an answer, from its first token to its end."""

    kind: GrammarKind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Parameters of a request: how its tokens are drawn, and when it ends.

    Args:
      temperature: 0 draws the most likely token; then the filters below are not read.
      top_k: draw among the k most likely tokens, an int32; 0 means all.
      top_p: draw among the most likely tokens that hold this much probability, in (0, 1].
      min_p: drop tokens less likely than this share of the most likely one, in [0, 1].
      seed: any signed 64-bit number; same request and seed, same tokens, whatever else is in the batch.
      max_tokens: most tokens to generate, at least 1.
      min_tokens: before so many there is no token of stop_token_ids.
      stop_token_ids: tokens that end the request; the last one is part of the output.
      presence_penalty, frequency_penalty: taken from the logit of a generated token, once and for each time, in [-2, 2].
      repetition_penalty: divides a positive logit, and multiplies a negative one, of every token of prompt and output; over 0.
      logit_bias: what is added to logits, by token.
      allowed_token_ids: no others; None allows all.
      bad_words: sequences of tokens of which none is made whole.
      grammar: what the whole answer must look like.
      logprobs: give the log-probability of each token, before all of the above, and of so many of the most likely ones; None gives none.
      prompt_logprobs: the same of the prompt's tokens, from the second on.
      pooling: give the prompt's hidden state, pooled so; None gives none.
    Raises:
      RequestError: a value outside its range, with the name of its field.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    max_tokens: int = 16
    min_tokens: int = 0
    stop_token_ids: frozenset[int] = frozenset()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    allowed_token_ids: frozenset[int] | None = None
    bad_words: tuple[tuple[int, ...], ...] = ()
    grammar: Grammar | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    pooling: Pooling | None = None

    def __post_init__(self):
        _require(math.isfinite(self.temperature) and self.temperature >= 0, "temperature", self.temperature, "0 or more, and finite")
        _require(0 <= self.top_k < 2**31, "top_k", self.top_k, f"0 (all) to {2**31 - 1}")
        _require(math.isfinite(self.top_p) and 0 < self.top_p <= 1, "top_p", self.top_p, "over 0, to 1")
        _require(math.isfinite(self.min_p) and 0 <= self.min_p <= 1, "min_p", self.min_p, "0 to 1")
        _require(-(2**63) <= self.seed < 2**63, "seed", self.seed, "a signed 64-bit integer")
        _require(self.max_tokens >= 1, "max_tokens", self.max_tokens, "1 or more")
        _require(0 <= self.min_tokens <= self.max_tokens, "min_tokens", self.min_tokens, f"0 to max_tokens={self.max_tokens}")
        for name in ("presence_penalty", "frequency_penalty"):
            _require(-2 <= getattr(self, name) <= 2, name, getattr(self, name), "-2 to 2")
        _require(0 < self.repetition_penalty < math.inf, "repetition_penalty", self.repetition_penalty, "over 0, and finite")
        _require(all(-100 <= bias <= 100 for _, bias in self.logit_bias), "logit_bias", dict(self.logit_bias), "-100 to 100 for each token")
        _require(all(self.bad_words), "bad_words", "an empty one", "sequences of 1 token or more")
        for name in ("logprobs", "prompt_logprobs"):
            count = getattr(self, name)
            _require(count is None or 0 <= count <= MOST_LOGPROBS, name, count, f"0 to {MOST_LOGPROBS}")


def _require(holds: bool, field: str, value: object, limit: str) -> None:
    if not holds:
        raise RequestError(f"{field} must be {limit}, got {value}", param=field)


class Adapter(NamedTuple):
    """LoRA adapter over a model: its name for clients, its folder, and the version of its weights' file, by which another one differs."""

    name: str
    path: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt for one model, in tokens.

    Args:
      prompt: token ids, at least one; adapter: over the model, which computes with it, None for the model as it is.
      arrival_s: on the clock of the engine that takes it; older requests go first.
      priority: lower goes first; a level is worth PRIORITY_S of waiting, so that nobody waits for ever.
      tenant, weight: whose it is, and that tenant's share of a model that several want.
      client: name of the sender's line, where the tenant is nobody in particular; "" for the tenant's.
      cache_salt: what is computed for it is used again only for the tenant's requests with the same one.
      begun: tokens of the answer that there are already, from an engine that is gone; the next ones are the same as it would have drawn.
    """

    id: str
    model: str
    prompt: tuple[int, ...]
    sampling: Sampling
    arrival_s: float
    priority: int = 0
    tenant: str = ""
    weight: float = 1.0
    client: str = ""
    cache_salt: str = ""
    begun: tuple[int, ...] = ()
    adapter: Adapter | None = None

    def __post_init__(self):
        _require(abs(self.priority) <= MOST_PRIORITY, "priority", self.priority, f"-{MOST_PRIORITY} to {MOST_PRIORITY}")
        if not self.prompt:
            raise RequestError("the prompt is empty: at least 1 token is needed", param="prompt")
        _require(len(self.begun) < self.sampling.max_tokens, "begun", f"{len(self.begun)} tokens", "less than max_tokens")

    @property
    def served(self) -> str:
        """Name of what clients have asked: the adapter, or the model without one."""
        return self.adapter.name if self.adapter else self.model

    @property
    def due_s(self) -> float:
        """Its arrival, moved by its priority: the order of the requests of a tenant."""
        return self.arrival_s + self.priority * PRIORITY_S

    @property
    def line(self) -> str:
        """Requests of one line wait for each other, and lines take turns."""
        return self.client or self.tenant

    @property
    def most_tokens(self) -> int:
        """Tokens when every allowed one has been generated."""
        return len(self.prompt) + self.sampling.max_tokens


class Logprobs(NamedTuple):
    """Natural logarithms of a token's probability and of the most likely tokens' in its place, these in order of likelihood."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class Output(NamedTuple):
    """One step of one request: a token, or only its end (an abort has no token).

    A request has exactly one output whose finish is not None, and it is the last.

    Args:
      logprobs: of the token, where they were wanted.
      prompt_logprobs: of the first output, where they were wanted: one for each token of the prompt from the second on.
      cached_tokens: of the first output: prompt tokens that were in the cache already.
      hidden: of the first output, where it was wanted: the prompt's pooled hidden state, [M] float32, as bytes.
    """

    request_id: str
    token: int | None
    finish: Finish | None
    at_s: float
    logprobs: Logprobs | None = None
    prompt_logprobs: tuple[Logprobs, ...] | None = None
    cached_tokens: int = 0
    hidden: bytes | None = None


Quotas = Mapping[str, int]
"""Head blocks each model may hold at most."""
