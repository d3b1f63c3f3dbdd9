"""Values that cross package borders."""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from muxjax.errors import ConfigError, RequestError
from muxjax.experts import Experts

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """Stretching of rotary frequencies.

    Args:
      kind: "linear" reads the factor alone; "llama3" the low and high one and the original length too; "yarn" the original length and
        what begins with `beta`; "longrope" `factors`, one for each frequency.
      attention_factor: multiplies the rotated queries and keys, of yarn and longrope.
      beta_fast, beta_slow: turns over the original length, above which a frequency is kept and below which it is stretched whole;
        beta_whole: between frequencies, not within them.
    Source: Hugging Face's rope_scaling / rope_parameters.
    """

    kind: str
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 1.0
    original_max_len: int = 0
    attention_factor: float = 1.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    beta_whole: bool = True
    factors: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Shape and variant of a decoder: all that its programs, its cache and its cost depend on.

    Args:
      width: M; ffn: F of layers without experts; kv_heads: K; head_dim: D.
      windows: attention window of each layer in tokens, None for the whole context.
      qkv_bias, out_bias, mlp_bias: which projections have biases.
      qk_norm: an RMS norm over each query and key head before the rotation (Qwen3).
      projection_norm: an RMS norm over all query heads together, and over all key heads, before the rotation (OLMo 2).
      pre_norms, post_norms: attention and MLP have a norm of what they read, and of what they add to the residual stream.
      norm_offset: norms multiply by 1 and their weight (Gemma); gelu: the MLP's gate is a GELU, by tanh, and no SiLU.
      local_rope_theta: of layers with a window, which nothing stretches; None for the same rotation in all layers.
      rotary_dim: how many of each head's numbers, the first ones, the rotary embedding turns; None for all.
      unrotated: layers without rotary embedding.
      embed_scale: multiplies embeddings; residual_scale: what attention and MLP add; attention_scale: scores, None for
        head_dim ** -0.5; logit_divisor: divides logits.
      sinks: each head has a score for a token that is none, which takes its share of the attention (GPT-OSS).
      attention_soft_cap, logit_soft_cap: scores and logits are bent to stay within plus and minus this, by tanh; None for as they are.
      interleaved: the rotary embedding turns neighbours, and not a number of each half; experts: of layers that have some, None for none.
      naming: the family after whose names checkpoints call their tensors: "llama"; "phi3" with q, k and v in one tensor of a layer, and
        gate and up; "glm4" with gate and up in one, and names of its own for norms; "mixtral", "glm4_moe", "granitemoe" and
        "gpt_oss" with names of their own for experts.
      tied: the output head is the embedding; max_len: most positions the model was made for.
      dtype: of the weights, as numpy names it; eos_ids: tokens that end a generation unless the client ignores them.
    Raises:
      ConfigError: heads is no multiple of kv_heads, or a window is missing.
    """

    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    max_len: int
    windows: tuple[int | None, ...]
    norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    projection_norm: bool = False
    pre_norms: bool = True
    post_norms: bool = False
    norm_offset: bool = False
    gelu: bool = False
    local_rope_theta: float | None = None
    rotary_dim: int | None = None
    unrotated: tuple[int, ...] = ()
    embed_scale: float = 1.0
    residual_scale: float = 1.0
    attention_scale: float | None = None
    logit_divisor: float = 1.0
    sinks: bool = False
    attention_soft_cap: float | None = None
    logit_soft_cap: float | None = None
    interleaved: bool = False
    experts: Experts | None = None
    naming: str = "llama"
    tied: bool = False
    dtype: str = "bfloat16"
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self):
        if self.heads % self.kv_heads:
            raise ConfigError(
                f"num_attention_heads must be a multiple of num_key_value_heads={self.kv_heads}, got {self.heads}",
                field="num_attention_heads",
            )
        if len(self.windows) != self.layers:
            raise ConfigError(f"a window for each of {self.layers} layers is needed, got {len(self.windows)}", field="windows")

    @property
    def group(self) -> int:
        """G: query heads that share one kv head."""
        return self.heads // self.kv_heads

    @property
    def dense_layers(self) -> tuple[int, ...]:
        """Those that have one MLP for all tokens."""
        return tuple(layer for layer in range(self.layers) if not self.experts or layer not in self.experts.layers)

    @property
    def params(self) -> int:
        """Number of parameters, biases and norms included."""
        return int(self.params_with(self.experts.count if self.experts else 0))

    @property
    def active_params(self) -> int:
        """Number of those that compute a token."""
        return int(self.params_with(self.experts.per_token if self.experts else 0))

    def params_with(self, experts: float) -> float:
        """Number of parameters if each layer that has experts had so many."""
        q_width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = 2 * self.width * (q_width + kv_width)
        biases = self.qkv_bias * (q_width + 2 * kv_width) + self.out_bias * self.width
        norms = 2 * self.width * (self.pre_norms + self.post_norms) + self.qk_norm * 2 * self.head_dim
        norms += self.projection_norm * (q_width + kv_width) + self.sinks * self.heads
        mlp = 3 * self.width * self.ffn + self.mlp_bias * (2 * self.ffn + self.width)
        mlps = len(self.dense_layers) * mlp + (len(self.experts.layers) * self.experts.params(self.width, experts) if self.experts else 0)
        return self.layers * (attention + biases + norms) + mlps + self.vocab * self.width * (1 if self.tied else 2) + self.width

    def share(self, tp: int) -> "ModelSpec":
        """The model that one of tp devices computes; the last ones' vocabulary is padded if it does not go round.

        Raises:
          ConfigError: the model does not split into tp.
        """
        self.require_split(tp)
        parts = {"heads": self.heads // tp, "kv_heads": self.kv_heads // tp, "ffn": self.ffn // tp, "vocab": -(-self.vocab // tp)}
        return replace(self, **parts, experts=self.experts and self.experts.share(tp))

    @property
    def split_sizes(self) -> dict[str, int]:
        """What devices share out in equal parts, as config.json calls it: the kv heads, of which query heads are a multiple, then FFNs."""
        sizes = {"num_key_value_heads": self.kv_heads}
        if self.dense_layers:
            sizes["intermediate_size"] = self.ffn
        if self.experts:
            sizes["intermediate_size of each expert"] = self.experts.ffn
        if self.experts and self.experts.shared_ffn:
            sizes["intermediate_size of the shared expert"] = self.experts.shared_ffn
        return sizes

    def splits(self, tp: int) -> bool:
        """Whether tp devices can have equal shares."""
        return all(size % tp == 0 for size in self.split_sizes.values())

    def require_split(self, tp: int) -> None:
        """
        Raises:
          ConfigError: the model does not split into tp, with what stands against it.
        """
        for field, size in self.split_sizes.items():
            if size % tp:
                raise ConfigError(f"tensor_parallel_size must be a divisor of {field}={size}, got {tp}", field="tensor_parallel_size")


Quotas = Mapping[str, int]
"""Head blocks each model may hold at most."""
