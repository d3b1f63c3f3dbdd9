"""What every backend serves: the same models, in the same precision, with the same cache."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muxjax.errors import require
from muxjax.units import show_bytes

DTYPES = ("bfloat16", "float16", "float32")
OVERHEAD_BYTES = 4 * 2**30
"""Of a process on a GPU beside weights and cache: its context, a step's own memory, graphs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A model of a fleet.

    Args:
      name: what clients call it; path: its folder.
      weight_bytes: of its weights, token_bytes: of a token in the cache, as the fleet holds them.
      cache_share, compute_share: of the fleet's cache and of the multiprocessors, for backends in which each model has its own.
    """

    name: str
    path: Path
    weight_bytes: int
    token_bytes: int
    cache_share: float
    compute_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Models on one GPU (or CPU), and the limits that all backends keep.

    Args:
      cache_bytes: of the cache of all models together; device_bytes: of the GPU's memory, 0 where there is none.
      dummy: weights are random, made by each backend itself.
      dtype: of weights, activations and, on a GPU, the cache, but for what the next two say.
      quantization, kv_cache_dtype: of every model, as of `muxjax serve`.
      max_model_len: tokens of prompt and answer; max_num_seqs: sequences of a model at a time.
      programs: folder where muxjax keeps what it has compiled, "" for nowhere.
    Raises:
      ConfigError: no model, two of one name or one with a "=" in it, shares over 1 together, more memory than there is, or a value outside
        its range.
    """

    members: tuple[Member, ...]
    cache_bytes: int
    device_bytes: int = 0
    dummy: bool = False
    dtype: str = "bfloat16"
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    max_model_len: int = 4096
    max_num_seqs: int = 256
    programs: str = "~/.cache/muxjax/xla"

    def __post_init__(self):
        names = [member.name for member in self.members]
        require(bool(names), "models", 0, "at least one")
        require(len(set(names)) == len(names), "models", ", ".join(names), "named once each")
        require("=" not in "".join(names), "models", ", ".join(names), "named without a =, behind which their places are told")
        require(self.dtype in DTYPES, "dtype", self.dtype, "one of " + ", ".join(DTYPES))
        for share in ("cache_share", "compute_share"):
            total = sum(getattr(member, share) for member in self.members)
            require(0 < total <= 1 + 1e-9, share, total, "over 0, to 1, of all models together")
        need = self.cache_bytes + sum(member.weight_bytes for member in self.members)
        limit = f"at most the {show_bytes(self.device_bytes)} of the device, weights included"
        require(not self.device_bytes or need <= self.device_bytes, "cache", show_bytes(need), limit)

    @property
    def written(self) -> dict[str, Any]:
        """For a run's record: what was the same for all backends. What is said only where it is not the usual, is in no older record."""
        usual = {"quantization": None, "kv_cache_dtype": "auto"}
        return {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value} | {
            "weight_bytes": {member.name: member.weight_bytes for member in self.members},
            "cache_bytes": self.cache_bytes,
            "dummy": self.dummy,
            "dtype": self.dtype,
            "max_model_len": self.max_model_len,
            "max_num_seqs": self.max_num_seqs,
        }

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(member.name for member in self.members)

    @property
    def load_format(self) -> str:
        """As `muxjax serve` calls it, and others do."""
        return "dummy" if self.dummy else "auto"

    @property
    def has_fp8_cache(self) -> bool:
        return self.kv_cache_dtype != "auto"

    def own_cache_bytes(self, member: Member) -> int:
        """Of a model that has a cache of its own."""
        return int(self.cache_bytes * member.cache_share)

    def own_cache_tokens(self, member: Member) -> int:
        """What its own cache holds."""
        return self.own_cache_bytes(member) // member.token_bytes

    def memory_fraction(self, member: Member, cache_bytes: int | None = None) -> float:
        """Of the device's memory, for a process that serves that model alone; of a device of unknown size all.

        Args:
          cache_bytes: of its cache; None for its share.
        """
        if not self.device_bytes:
            return 1.0
        cache_bytes = self.own_cache_bytes(member) if cache_bytes is None else cache_bytes
        return min(1.0, (member.weight_bytes + cache_bytes + OVERHEAD_BYTES) / self.device_bytes)


def shares(wants: Mapping[str, float], floors: Mapping[str, float]) -> dict[str, float]:
    """Parts of 1: each its floor, and of what is left in proportion to what it wants; alike where nobody wants anything.

    Args:
      floors: parts that sum to 1 at most.
    """
    left, total = 1.0 - sum(floors.values()), sum(wants.values())
    return {name: floors[name] + left * (want / total if total else 1 / len(wants)) for name, want in wants.items()}
