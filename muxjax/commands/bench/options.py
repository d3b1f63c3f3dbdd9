"""Options of `muxjax bench`; apart from the commands, whose imports take longer."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muxjax.commands.simulation.options import FORMATS, MOST_S, MOST_SCALE
from muxjax.errors import require
from muxjax.workload.goodput import FARTHEST

ENDPOINTS = ("completions", "chat")
TOLD = frozenset(
    ("kv_cache_bytes", "compilation_cache_dir", "max_model_len", "max_num_seqs", "load_format", "dtype", "quantization", "kv_cache_dtype")
)
"""Options of a unit and its models that every backend of a comparison can be told."""
MOST_RATE, MOST_PROMPTS, MOST_TOKENS, MOST_SEEDS, MOST_ALONE, MOST_CLIENTS = 1e5, 10**7, 2**18, 100, 100, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What is asked: random tokens, or `dataset`, at `rate`; or requests of a `workload`'s or a `trace`'s lengths at their own times.

    Args:
      model: who is asked, evenly, as NAME or NAME=URL; none for all that the server lists, or that the workload or trace names.
      rename: models of the trace or workload, as OLD=NEW.
      rate: requests a second of all models together, infinity for all at once; burstiness: shape of the gamma distribution of
        each model's gaps, 1 for Poisson, less for clumps, infinity for even gaps.
      num_prompts, duration_s: how many requests, or those of so many seconds; a trace is replayed whole.
      output_len: tokens of each answer to a data set, in place of what it says.
      max_model_len: to which requests of a workload or trace are cut.
      trace: {seed} in its name stands for the seed of a run.
      prompt_ids_below: tokens of random prompts are smaller.
      endpoint: of ENDPOINTS; None for chat where the prompts are texts.
    Raises:
      ConfigError: a value outside its range, or two that exclude each other.
    """

    model: tuple[str, ...] = ()
    trace: Path | None = None
    format: str = FORMATS[0]
    workload: str | None = None
    dataset: Path | None = None
    rename: tuple[str, ...] = ()
    rate: float = 10.0
    burstiness: float = 1.0
    rate_scale: float = 1.0
    num_prompts: int | None = None
    duration_s: float | None = None
    random_input_len: int = 64
    random_output_len: int = 32
    output_len: int | None = None
    max_model_len: int | None = None
    prompt_ids_below: int = 256
    ignore_eos: bool = False
    endpoint: str | None = None

    def __post_init__(self):
        given = [name for name in ("trace", "workload", "dataset") if getattr(self, name) is not None]
        for name in given[1:]:
            require(False, name, str(getattr(self, name)), f"left out beside {given[0]}")
        require(self.format in FORMATS, "format", self.format, "one of " + ", ".join(FORMATS))
        require(self.trace is not None or self.format == FORMATS[0], "format", self.format, "left out where no trace is given")
        require(self.endpoint in (None, *ENDPOINTS), "endpoint", self.endpoint, " or ".join(ENDPOINTS))
        require(self.duration_s is None or 0 < self.duration_s <= MOST_S, "duration_s", self.duration_s, f"over 0, to {MOST_S:g}")
        require(self.num_prompts is None or self.duration_s is None, "duration_s", self.duration_s, "left out beside num_prompts")
        require(self.trace is None or self.duration_s is None, "duration_s", self.duration_s, "left out where a trace is given")
        require(self.num_prompts is None or 1 <= self.num_prompts <= MOST_PROMPTS, "num_prompts", self.num_prompts, f"1 to {MOST_PROMPTS}")
        require(self.rate == math.inf or 0 < self.rate <= MOST_RATE, "rate", self.rate, f"over 0, to {MOST_RATE:g}, or inf")
        timed = self.rate < math.inf or self.duration_s is None
        require(timed, "duration_s", self.duration_s, "left out where all come at once: num_prompts tells")
        require(self.burstiness == math.inf or 1e-4 <= self.burstiness <= 1e4, "burstiness", self.burstiness, "0.0001 to 10000, or inf")
        require(1 / MOST_SCALE <= self.rate_scale <= MOST_SCALE, "rate_scale", self.rate_scale, f"{1 / MOST_SCALE:g} to {MOST_SCALE:g}")
        require(
            self.max_model_len is None or 2 <= self.max_model_len <= MOST_TOKENS, "max_model_len", self.max_model_len, f"2 to {MOST_TOKENS}"
        )
        for field in ("random_input_len", "random_output_len", "output_len"):
            value = getattr(self, field)
            require(value is None or 1 <= value <= MOST_TOKENS, field, value, f"1 to {MOST_TOKENS}")

    def trace_of(self, seed: int) -> Path | None:
        """The file that a run of the seed replays."""
        return None if self.trace is None else self.trace.with_name(self.trace.name.replace("{seed}", str(seed)))

    @property
    def written(self) -> dict[str, Any]:
        """For a run's record: what was asked, apart from how fast and where."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "rate_scale"}
        values["model"] = tuple(model.partition("=")[0] for model in self.model)
        return {name: _plain(value) for name, value in values.items() if value not in (None, (), [], False)}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """Whom to ask, and what is kept.

    Args:
      base_url: of a server's API, for models without a URL of their own.
      api_key: None for the one in OPENAI_API_KEY.
      seeds: a run each; warmup: requests of each model that are asked alone before, which tell what objectives are multiples of.
      timeout_s: after which a request has failed.
      clients: processes that send the requests, in turn.
      label: of the runs, in files and pictures.
      records: where a line for each request is written; runs are appended.
      json: where the summary is written.
    Raises:
      ConfigError: a value outside its range.
    """

    base_url: str = "http://127.0.0.1:8000"
    api_key: str | None = None
    seeds: tuple[int, ...] = (0,)
    warmup: int = 4
    timeout_s: float = 600.0
    clients: int = 1
    label: str = "muxjax"
    records: Path | None = None
    json: Path | None = None

    def __post_init__(self):
        several = 1 <= len(self.seeds) <= MOST_SEEDS and len(set(self.seeds)) == len(self.seeds)
        require(several, "seeds", list(self.seeds), f"1 to {MOST_SEEDS} different ones")
        for seed in self.seeds:
            require(0 <= seed < 2**63, "seeds", seed, "0 or more")
        require(0 <= self.warmup <= MOST_ALONE, "warmup", self.warmup, f"0 to {MOST_ALONE}")
        require(0 < self.timeout_s <= MOST_S, "timeout_s", self.timeout_s, f"over 0, to {MOST_S:g}")
        require(1 <= self.clients <= MOST_CLIENTS, "clients", self.clients, f"1 to {MOST_CLIENTS}")
        require(bool(self.label), "label", self.label, "a text that is not empty")
        for field in ("records", "json"):
            path = getattr(self, field)
            require(path is None or path.parent.is_dir(), field, str(path), "in a folder that exists")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions:
    """What is searched.

    Args:
      least: share of the requests within their targets; most_scale: highest multiple of the load's rate that is tried.
    Raises:
      ConfigError: a value outside its range.
    """

    least: float = 0.99
    most_scale: float = FARTHEST

    def __post_init__(self):
        require(0 < self.least <= 1, "least", self.least, "over 0, to 1")
        require(1 <= self.most_scale <= FARTHEST, "most_scale", self.most_scale, f"1 to {FARTHEST:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """Who is compared, and how far.

    Args:
      backends: in this order, by name, or as NAME=MODULE: a Python module that takes the flags of `muxjax serve`, a process a model.
      rate_scales: multiples of the load's rate, each of which all backends are asked.
      enough: a backend is asked no more than the first rate at which less than this share is within its targets.
      logs: folder of what servers print; None for one that goes.
      ready_s: time in which a backend must have started.
    Raises:
      ConfigError: a value outside its range.
    """

    backends: tuple[str, ...] = ("mux", "turns")
    rate_scales: tuple[float, ...] = (1.0,)
    enough: float = 0.0
    logs: Path | None = None
    ready_s: float = 900.0

    def __post_init__(self):
        require(bool(self.backends), "backends", "none", "at least one")
        scales = self.rate_scales
        several = bool(scales) and len(set(scales)) == len(scales) and all(1 / MOST_SCALE <= scale <= MOST_SCALE for scale in scales)
        require(several, "rate_scales", list(scales), f"different ones, {1 / MOST_SCALE:g} to {MOST_SCALE:g}")
        require(0 <= self.enough <= 1, "enough", self.enough, "0 to 1")
        require(0 < self.ready_s < float("inf"), "ready_s", self.ready_s, "over 0 and finite")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return list(value)
    return "inf" if value == math.inf else value
