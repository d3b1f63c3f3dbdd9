"""Ways to serve the same models, and loads that they are held to."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.model_spec import ModelSpec
from muxjax.specs.published import BY_NAME
from muxjax.workload.presets import by_name
from muxjax.workload.trace import Arrival

MODELS = {"8b": "llama-3.1-8b", "3b": "llama-3.2-3b", "1b": "llama-3.2-1b"}
SLOTS, MAX_TOKENS, PROMPTS = 512, 8448, 16
CACHE_BYTES = 40 * 2**30
TTFT_S, TPOT_S = 1.0, 0.05
"""Targets of the service level, and of `mux`."""
SHOWN_AT_S, SHOWN_S = 5.0, 0.2
"""The part of a load of which a line tells every job: since its first request was due, and how long."""
TRACE_S = 40.0
"""Of x1; x3 is as many requests in a third of the time."""
SCALES = (1.25, 1.4, 1.5, 1.65, 1.75, 1.85, 2.0, 2.25, 2.5)
"""At which the highest rate is looked for that is served within target."""

TINY = ModelSpec(
    vocab=256, width=64, layers=2, heads=4, kv_heads=2, head_dim=32, ffn=96, max_len=256, windows=(None, None), dtype="float32"
)

WAYS: Mapping[str, Mapping[str, Any]] = {
    "turns": {"lanes": 1, "policy": "adbs"},
    "lanes": {"lanes": 3, "policy": "adbs"},
    "mux": {"lanes": 3, "policy": "mux"},
    "shares": {"lanes": 3, "policy": "mux", "sm_shares": (80, 96)},
}
"""Options of the unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way and the loads it is to serve, one after another."""

    way: str
    loads: tuple[str, ...]
    seed: int
    programs: str
    tiny: bool

    def values(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def options(self) -> dict[str, Any]:
        """Of the unit; toys, in float32, have no product that keeps to a share."""
        return {**WAYS[self.way], **({"sm_shares": ()} if self.tiny else {})}

    @property
    def slots(self) -> int:
        return 16 if self.tiny else SLOTS

    @property
    def specs(self) -> dict[str, ModelSpec]:
        return {name: TINY if self.tiny else BY_NAME[shape] for name, shape in MODELS.items()}


def unit(
    paths: Mapping[str, Path], *, programs: str | Path, slots: int = SLOTS, tiny: bool = False, more: Mapping[str, Any] | None = None
) -> UnitOptions:
    """A unit of models by name, with the sizes that name its programs: what one script has compiled, others find."""
    return UnitOptions(
        models=tuple(model(name, path, slots=slots, tiny=tiny) for name, path in paths.items()),
        compilation_cache_dir=str(programs),
        kv_cache_bytes=2**26 if tiny else CACHE_BYTES,
        max_num_prefill_seqs=PROMPTS,
        max_num_batched_tokens=128 if tiny else 2048,
        **(more or {}),
    )


def model(name: str, path: Path, *, slots: int, tiny: bool) -> ModelOptions:
    """One of them, or another that comes later."""
    length = TINY.max_len if tiny else MAX_TOKENS
    return ModelOptions(name=name, path=path, load_format="dummy", max_num_seqs=slots, max_model_len=length, ttft_s=TTFT_S, tpot_s=TPOT_S)


def trace(seed: int, scale: float, seconds: float = TRACE_S) -> list[Arrival]:
    """Requests of the preset `llama-trio`, in so much less time."""
    return [arrival._replace(time_s=arrival.time_s / scale) for arrival in by_name("llama-trio").trace(seconds, seed)]


def decodes(seed: int) -> list[Arrival]:
    """As many streams of each as run at once where all three are busy, all decoding all the time."""
    return [Arrival(0.0, model, 64, 768) for model, rows in {"8b": 44, "3b": 40, "1b": 50}.items() for _ in range(rows)]


def long_prompts(seed: int) -> list[Arrival]:
    """64 streams of the 1B, beside which prompts of 8,000 tokens come for the 8B, as many as keep it busy."""
    streams = [Arrival(0.0, "1b", 64, 1500) for _ in range(64)]
    return streams + [Arrival(2.0 + 0.25 * i, "8b", 8000, 4) for i in range(16)]


def alone(seed: int) -> list[Arrival]:
    """64 streams of the 1B, and nothing else."""
    return [Arrival(0.0, "1b", 64, 1000) for _ in range(64)]


LOADS: Mapping[str, Callable[[int], list[Arrival]]] = {
    "x1": lambda seed: trace(seed, 1.0),
    "x3": lambda seed: trace(seed, 3.0),
    "x2": lambda seed: trace(seed, 2.0, 20.0),
    "decodes": decodes,
    "long prompts": long_prompts,
    "alone": alone,
}
"""Requests by the name of the load, of a seed."""

HIGHEST, WITHIN = "highest", 0.99
RISING: Mapping[str, Callable[[int], list[Arrival]]] = {f"x{scale:.2f}": partial(trace, scale=scale) for scale in SCALES}
"""The load HIGHEST: one after another, up to the first that leaves less than WITHIN of its requests within target."""
