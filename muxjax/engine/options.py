"""Options of a unit and its models: what is served, and with how much."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from muxjax.buckets import PREFILL_ROWS, TOKEN_BUDGET
from muxjax.cache.layout import BLOCK_BYTES
from muxjax.engine.speculation.options import SpeculativeOptions
from muxjax.errors import require, require_within
from muxjax.quantization import QUANTIZATIONS
from muxjax.scheduler.policies import BY_NAME

LOAD_FORMATS = ("auto", "dummy")
TOOL_CALL_PARSERS = ("hermes", "llama3_json", "mistral", "pythonic", "none")
REASONING_PARSERS = ("qwen3", "deepseek_r1", "mistral", "none")
POOLINGS = ("last", "mean")
DTYPES = ("auto", "bfloat16", "float16", "float32")
OTHER_DTYPES = {"half": "float16", "float": "float32"}
"""As vLLM calls them too."""
KV_CACHE_DTYPES = ("auto", "fp8", "fp8_e4m3")
GRAMMAR_CHARACTERS, MOST_GRAMMAR_CHARACTERS = 2**17, 2**26
MOST_PREFILL_ROWS = 256
MOST_LANES_UNASKED = 4
LORAS_UNASKED, MOST_LORAS, MOST_LORA_RANK = 8, 256, 64
DRAFTED_ROWS = 64
MOST_MODEL_LEN, MOST_BATCHED_TOKENS, MOST_DEVICES, MOST_BLOCK_BYTES, MOST_LOOK_AHEAD = 2**24, 2**20, 1024, 2**24, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraOptions:
    """One LoRA adapter to serve over a model.

    Args:
      name: what clients call it.
      path: its folder, as peft writes one.
    """

    name: str
    path: Path

    def __post_init__(self):
        require(bool(self.name), "name", self.name, "not empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """One model to serve.

    Args:
      name: what clients call it.
      path: a Hugging Face or Orbax folder.
      aliases: further names of the same model.
      max_model_len: most tokens of prompt and output together; None for what the model was made for.
      max_num_seqs: most sequences at a time.
      load_format: "auto" reads the weights, "dummy" makes random ones of the same shape.
      dtype: of weights and activations, also "half" or "float"; "auto" for the checkpoint's.
      quantization: of QUANTIZATIONS: the matrices of its layers are rounded to FP8 while they are loaded, and activations of
        prompts while they are computed; None for as they are stored.
      kv_cache_dtype: of its keys and values in the shared cache; "fp8" and "fp8_e4m3" keep twice the tokens in a block of bfloat16,
        "auto" keeps them as the cache is.
      rate: expected requests a second against the other models; sets the first cache quotas.
      weight: share of the devices and of the cache under load, against the other models.
      max_num_queued_reqs, max_num_queued_tokens: most requests, and tokens of their prompts, that wait for a first token; None for the
        unit's limit alone.
      ttft_s, tpot_s: targets of the time to a first token, and of the mean time between tokens; None for none.
      enforce: requests that are certain to miss a target are refused at once.
      chat_template: a jinja file in place of the checkpoint's own.
      tool_call_parser, reasoning_parser: of TOOL_CALL_PARSERS and REASONING_PARSERS, by which calls and reasoning are read out of its
        answers; None for those that its chat template is written for.
      pooling: of POOLINGS: it makes embeddings, of its hidden states pooled so; None for what the checkpoint says, which for most is none.
      auto_wake: when it sleeps, a request wakes it; so it is for one with a ttl_s or group.
      ttl_s: it is put to sleep when it has had nothing to do for so long; None or 0 for never.
      group: of models that make room for each other, by name; None for none.
      max_grammar_characters: most of a request's JSON schema, pattern or grammar, or of all its tools together.
      allow_unknown_config: fields of config.json that are not known are ignored with a warning; without it they refuse the model.
      devices: those of the unit that share the model out, by number; None for all.
      prefill_share: of the multiprocessors, that its long prefills may keep to while other lanes decode, or the next less that there are
        programs for; 1 for all, None for the unit's `sm_shares`.
      loras: LoRA adapters over it, each of which is served under its own name.
      max_loras: most adapters on the devices at a time, for which there is always memory; the others wait in the host's. None for as many
        as `loras` has, at most 8; 0 for none.
      max_lora_rank: largest rank of an adapter.
      max_cpu_loras: most adapters that are kept in the host's memory while nobody asks for them.
      speculative_config: how its tokens are drafted, as of `SpeculativeOptions`; None for one token a step.
    Raises:
      ConfigError: a value outside its range.
    """

    name: str
    path: Path
    aliases: tuple[str, ...] = ()
    max_model_len: int | None = None
    max_num_seqs: int = 64
    load_format: str = "auto"
    dtype: str = "auto"
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    rate: float = 1.0
    weight: float = 1.0
    max_num_queued_reqs: int | None = None
    max_num_queued_tokens: int | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    enforce: bool = False
    chat_template: Path | None = None
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    pooling: str | None = None
    auto_wake: bool = False
    ttl_s: float | None = None
    group: str | None = None
    max_grammar_characters: int = GRAMMAR_CHARACTERS
    allow_unknown_config: bool = False
    devices: tuple[int, ...] | None = None
    prefill_share: float | None = None
    loras: tuple[LoraOptions, ...] = ()
    max_loras: int | None = None
    max_lora_rank: int = 16
    max_cpu_loras: int = 64
    speculative_config: SpeculativeOptions | None = None

    def __post_init__(self):
        require(bool(self.name), "name", self.name, "not empty")
        length = self.max_model_len
        require(length is None or 2 <= length <= MOST_MODEL_LEN, "max_model_len", length, f"2 to {MOST_MODEL_LEN}")
        require(1 <= self.max_num_seqs <= 4096, "max_num_seqs", self.max_num_seqs, "1 to 4096")
        require(self.load_format in LOAD_FORMATS, "load_format", self.load_format, "one of " + ", ".join(LOAD_FORMATS))
        require(self.dtype in (*DTYPES, *OTHER_DTYPES), "dtype", self.dtype, "one of " + ", ".join(DTYPES))
        require(self.kv_cache_dtype in KV_CACHE_DTYPES, "kv_cache_dtype", self.kv_cache_dtype, "one of " + ", ".join(KV_CACHE_DTYPES))
        known = self.quantization is None or self.quantization in QUANTIZATIONS
        require(known, "quantization", self.quantization, f"one of {', '.join(QUANTIZATIONS)}; checkpoints say how they are quantised")
        for field, parsers in (("tool_call_parser", TOOL_CALL_PARSERS), ("reasoning_parser", REASONING_PARSERS)):
            value = getattr(self, field)
            require(value is None or value in parsers, field, value, "one of " + ", ".join(parsers))
        require(self.pooling is None or self.pooling in POOLINGS, "pooling", self.pooling, "one of " + ", ".join(POOLINGS))
        grammar = self.max_grammar_characters
        require(1 <= grammar <= MOST_GRAMMAR_CHARACTERS, "max_grammar_characters", grammar, f"1 to {MOST_GRAMMAR_CHARACTERS}")
        require(self.ttl_s is None or 0 <= self.ttl_s < float("inf"), "ttl_s", self.ttl_s, "0 or more seconds, and finite")
        require(self.group != "", "group", self.group, "not empty")
        for field in ("rate", "weight", "ttft_s", "tpot_s"):
            value = getattr(self, field)
            require(value is None or 0 < value < float("inf"), field, value, "over 0 and finite")
        require(self.prefill_share is None or 0 <= self.prefill_share <= 1, "prefill_share", self.prefill_share, "0 to 1")
        _require_queue(self)
        _require_loras(self)
        chosen = self.devices
        fits = chosen is None or (len(chosen) > 0 and chosen[0] >= 0 and all(one < next_one for one, next_one in pairwise(chosen)))
        require(fits, "devices", chosen, "numbers of the unit's devices from 0, in order, each once")
        require(not self.enforce or bool(self.ttft_s or self.tpot_s), "enforce", self.enforce, "with a target, ttft_s or tpot_s")

    @property
    def lora_places(self) -> int:
        """Adapters that the devices hold at a time."""
        return min(len(self.loras), LORAS_UNASKED) if self.max_loras is None else self.max_loras

    @property
    def unnamed_loras(self) -> "ModelOptions":
        """The same with places for adapters alone: what a worker is told, for requests bring theirs."""
        return replace(self, loras=(), max_loras=self.lora_places) if self.loras else self

    @property
    def has_fp8_cache(self) -> bool:
        """Its keys and values are kept in FP8."""
        return self.kv_cache_dtype != "auto"

    @property
    def names(self) -> tuple[str, ...]:
        """All by which clients may call it or its adapters."""
        return (self.name, *self.aliases, *(lora.name for lora in self.loras))

    @property
    def is_woken(self) -> bool:
        """Requests wake it when it sleeps."""
        return self.auto_wake or bool(self.ttl_s) or self.group is not None

    @property
    def draft_model(self) -> str | None:
        """Name of the other model that drafts for it; one that names itself, as where all are told the same, has none."""
        own = self.speculative_config.model if self.speculative_config else None
        return None if own in self.names else own

    @property
    def most_decode_rows(self) -> int:
        """Most rows of a step that compute one token each: of all its sequences, and their drafts as far as that makes DRAFTED_ROWS."""
        drafts = self.speculative_config.num_speculative_tokens if self.speculative_config else 0
        return max(self.max_num_seqs, min(DRAFTED_ROWS, self.max_num_seqs * (1 + drafts)))

    @property
    def reading(self) -> dict[str, Any]:
        """Arguments of `specs.config.read_spec` beside the folder."""
        return {
            "dtype": OTHER_DTYPES.get(self.dtype, self.dtype),
            "max_len": self.max_model_len,
            "allow_unknown": self.allow_unknown_config,
            "weights": self.load_format != "dummy",
            "quantization": self.quantization,
            "cache_scales": self.has_fp8_cache,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelGroup:
    """Models that make room for each other, in llama-swap's terms. A model of no group never goes to sleep for another one.

    Args:
      name: as its models give it.
      swap: one of them is awake at a time; else all may be.
      exclusive: while one of them is awake, models of other groups sleep.
      persistent: they stay awake beside a group that is exclusive.
    """

    name: str
    swap: bool = True
    exclusive: bool = True
    persistent: bool = False

    def __post_init__(self):
        require(bool(self.name), "name", self.name, "not empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitOptions:
    """Models that share devices and one cache.

    Args:
      policy: of `scheduler`, by name; None for "mux" where there are lanes, and "adbs" elsewhere.
      lanes: streams of a GPU whose steps run beside each other, each with models of its own; with one, all models take turns. None for one
        a model, up to MOST_LANES_UNASKED, on one GPU, and for one elsewhere.
      sm_shares: multiprocessors that long prefills may keep to while other lanes decode, of which `mux` chooses step by step; none has them
        use all, always.
      max_num_batched_tokens: most prompt tokens of one step, in eights a prompt; longer prompts go in chunks. What it decodes comes on top.
      max_num_prefill_seqs: most prompts of one step.
      max_num_shared_tokens: the same while another model has requests that run, which a long step would hold up; None for no other.
      tensor_parallel_size: devices, each of which holds an equal share of every model that does not name some of them.
      kv_cache_bytes: size of the arena of each device; None takes what the weights leave.
      memory_bytes: of a device, for weights, cache and steps together; None for gpu_memory_fraction of a GPU's, and elsewhere for no limit.
      gpu_memory_fraction: of a device's memory, for weights, cache and steps together.
      kv_dtype: of the shared cache; "auto" is float32 on CPU and bfloat16 elsewhere.
      block_bytes: size of a head block.
      compilation_cache_dir: where compiled programs are kept for the next start; empty for nowhere.
      wait_for_all: serves when every program is there, not when those are that hold every step.
      look_ahead: steps of a model that are launched before the first of them is read back, at least 1.
      step_timeout_s: a step that takes longer is stuck.
      enable_prefix_caching: what was computed is kept while there is room, for requests that begin alike.
      prefix_cache_fraction: share of the cache up to which a model keeps what others could push out, in [0, 1].
      groups: what models of a group do for each other; one that is named by models alone is as `ModelGroup` has it.
      max_num_queued_reqs, max_num_queued_tokens: most requests of all models together, and tokens of their prompts, that wait for a
        first token; None for no limit.
    Raises:
      ConfigError: a value outside its range, no model, or two with one name.
    """

    models: tuple[ModelOptions, ...]
    policy: str | None = None
    lanes: int | None = None
    sm_shares: tuple[int, ...] = ()
    max_num_batched_tokens: int = TOKEN_BUDGET
    max_num_prefill_seqs: int = PREFILL_ROWS
    max_num_shared_tokens: int | None = None
    tensor_parallel_size: int = 1
    kv_cache_bytes: int | None = None
    memory_bytes: int | None = None
    gpu_memory_fraction: float = 0.9
    kv_dtype: str = "auto"
    block_bytes: int = BLOCK_BYTES
    compilation_cache_dir: str = "~/.cache/muxjax/xla"
    wait_for_all: bool = False
    look_ahead: int = 2
    step_timeout_s: float = 300.0
    enable_prefix_caching: bool = True
    prefix_cache_fraction: float = 0.5
    groups: tuple[ModelGroup, ...] = ()
    max_num_queued_reqs: int | None = None
    max_num_queued_tokens: int | None = None

    def __post_init__(self):
        require(bool(self.models), "models", 0, "at least one")
        names = [name for model in self.models for name in model.names]
        twice = sorted({name for name in names if names.count(name) > 1})
        require(not twice, "models", ", ".join(twice), "named once each")
        require(self.policy is None or self.policy in BY_NAME, "policy", self.policy, "one of " + ", ".join(BY_NAME))
        require(
            self.lanes is None or 1 <= self.lanes <= len(self.models), "lanes", self.lanes, f"1 to the number of models, {len(self.models)}"
        )
        require(self.most_lanes == 1 or self.tensor_parallel_size == 1, "lanes", self.lanes, "1 where tensor_parallel_size is more than 1")
        require(not self.sm_shares or self.most_lanes > 1, "sm_shares", self.sm_shares, "none where there is one lane")
        require(len(set(self.sm_shares)) == len(self.sm_shares), "sm_shares", self.sm_shares, "named once each")
        require_within(self, "max_num_batched_tokens", 16, MOST_BATCHED_TOKENS)
        require_within(self, "max_num_prefill_seqs", 1, MOST_PREFILL_ROWS)
        shared = self.max_num_shared_tokens
        require(shared is None or shared >= 16, "max_num_shared_tokens", shared, "16 or more")
        require_within(self, "tensor_parallel_size", 1, MOST_DEVICES)
        require(self.kv_cache_bytes is None or self.kv_cache_bytes > 0, "kv_cache_bytes", self.kv_cache_bytes, "over 0")
        require(self.memory_bytes is None or self.memory_bytes > 0, "memory_bytes", self.memory_bytes, "over 0")
        require(0 < self.gpu_memory_fraction <= 1, "gpu_memory_fraction", self.gpu_memory_fraction, "over 0, to 1")
        require(self.kv_dtype in DTYPES, "kv_dtype", self.kv_dtype, "one of " + ", ".join(DTYPES))
        require_within(self, "block_bytes", 64, MOST_BLOCK_BYTES)
        require(self.block_bytes.bit_count() == 1, "block_bytes", self.block_bytes, "a power of two")
        require_within(self, "look_ahead", 1, MOST_LOOK_AHEAD)
        require(0 < self.step_timeout_s < float("inf"), "step_timeout_s", self.step_timeout_s, "over 0 and finite")
        require(0 <= self.prefix_cache_fraction <= 1, "prefix_cache_fraction", self.prefix_cache_fraction, "0 to 1")
        _require_queue(self)
        groups = [group.name for group in self.groups]
        require(len(set(groups)) == len(groups), "groups", ", ".join(groups), "named once each")
        for model in self.models:
            self.devices_of(model)
            _require_draft_model(model, self.models)

    def devices_of(self, model: ModelOptions) -> tuple[int, ...]:
        """Numbers of the unit's devices that hold a model.

        Raises:
          ConfigError: the unit has fewer.
        """
        count = self.tensor_parallel_size
        devices = tuple(range(count)) if model.devices is None else model.devices
        require(devices[-1] < count, "devices", list(devices), f"below tensor_parallel_size={count} for {model.name}")
        return devices

    @property
    def has_steps_beside(self) -> bool:
        """Steps may run beside each other: on lanes, or on devices of which models have some only."""
        return self.most_lanes > 1 or any(model.devices is not None for model in self.models)

    def serving(self, models: Iterable[ModelOptions], *, devices: int | None = None) -> "UnitOptions":
        """The same for these models, on so many devices (as many as now): lanes, shares beside them, and draft models, as far as there can
        be any.

        Raises:
          ConfigError: as of the class.
        """
        models, devices = tuple(models), devices or self.tensor_parallel_size
        names = {model.name for model in models}
        models = tuple(model if model.draft_model in {None, *names} else replace(model, speculative_config=None) for model in models)
        lanes = None if self.lanes is None or devices > 1 else min(self.lanes, len(models))
        shares = self.sm_shares if devices == 1 and len(models) > 1 and lanes != 1 else ()
        return replace(self, models=models, tensor_parallel_size=devices, lanes=lanes, sm_shares=shares)

    def kv_dtype_on(self, *, cpu: bool) -> str:
        """The shared cache's on such devices."""
        return self.kv_dtype if self.kv_dtype != "auto" else "float32" if cpu else "bfloat16"

    def plus(self, model: ModelOptions) -> "UnitOptions":
        """With one model more."""
        return self.serving((*self.models, model))

    def without(self, name: str) -> "UnitOptions":
        """With one model less, of which there are more."""
        return self.serving(model for model in self.models if model.name != name)

    def with_loras(self, name: str, loras: tuple[LoraOptions, ...]) -> "UnitOptions":
        """With these adapters over a model, which has as many places for them as before."""
        models = {model.name: model for model in self.models}
        models[name] = replace(models[name], loras=loras, max_loras=models[name].lora_places)
        return replace(self, models=tuple(models.values()))

    @property
    def most_lanes(self) -> int:
        """Lanes that there are to be, where there can be any."""
        if self.lanes is not None:
            return self.lanes
        return 1 if self.tensor_parallel_size > 1 else min(len(self.models), MOST_LANES_UNASKED)


def _require_queue(options: ModelOptions | UnitOptions) -> None:
    for field in ("max_num_queued_reqs", "max_num_queued_tokens"):
        limit = getattr(options, field)
        require(limit is None or limit >= 1, field, limit, "1 or more")


def _require_draft_model(model: ModelOptions, models: Iterable[ModelOptions]) -> None:
    """What another model drafts for may be any, but for one that drafts."""
    drafting = {each.name: each.draft_model for each in models}
    own = model.draft_model
    require(own is None or own in drafting, "speculative_config", own, f"a model of the same unit: {', '.join(drafting)}")
    require(own is None or drafting[own] is None, "speculative_config", own, "a model that has no draft model itself")


def _require_loras(options: ModelOptions) -> None:
    places = options.max_loras
    require(places is None or 0 <= places <= MOST_LORAS, "max_loras", places, f"0 to {MOST_LORAS}")
    require(places != 0 or not options.loras, "max_loras", 0, f"1 or more for the adapters of {options.name}")
    require(1 <= options.max_lora_rank <= MOST_LORA_RANK, "max_lora_rank", options.max_lora_rank, f"1 to {MOST_LORA_RANK}")
    require(options.max_cpu_loras >= 0, "max_cpu_loras", options.max_cpu_loras, "0 or more")
