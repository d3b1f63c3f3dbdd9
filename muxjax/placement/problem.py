"""Problem and placement, what a placer is asked and what it answers: plain values."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from muxjax.cost.chip import Chip, MeshSpec
from muxjax.errors import ConfigError, require
from muxjax.model_spec import ModelSpec
from muxjax.placement.goals import GOALS

MOST_MODELS, MOST_TOKENS, MOST_BATCH, MOST_WEIGHT = 1000, 2**24, 2**16, 1000
PRECISIONS = {"bf16": 2, "fp8": 1, "int8": 1, "int4": 0.5}
"""Bytes of a weight or an element of the cache."""
MOST_NODES, MOST_DEVICES_PER_NODE, MOST_DEVICES = 4096, 1024, 2**15
MOST_POOLS, MOST_PRICE = 8, 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """An LLM and the requests that come for it.

    Args:
      rate_rps: requests a second, over 0.
      prompt_tokens, output_tokens: of a request, in the mean.
      ttft_s, tpot_s: targets of the mean time to the first token and of the mean time per output token; None for no target.
      weights, cache: how they are held, of PRECISIONS; for memory and for what reading them costs.
      weight: of it in the objective; who has 2 counts as two LLMs.
    Raises:
      ConfigError: a value outside its range, NaN included.
    """

    name: str
    spec: ModelSpec
    rate_rps: float
    prompt_tokens: float
    output_tokens: float
    ttft_s: float | None = None
    tpot_s: float | None = None
    weight: float = 1.0
    weights: str = "bf16"
    cache: str = "bf16"

    def __post_init__(self):
        where = f"models.{self.name}"
        require(self.weights in PRECISIONS, f"{where}.weights", self.weights, "one of " + ", ".join(PRECISIONS))
        wide = [name for name, size in PRECISIONS.items() if size >= 1]
        require(self.cache in wide, f"{where}.cache", self.cache, "one of " + ", ".join(wide))
        require(0 < self.rate_rps < float("inf"), f"{where}.rate_rps", self.rate_rps, "over 0 and finite")
        for field in ("prompt_tokens", "output_tokens"):
            value = getattr(self, field)
            require(0 < value <= MOST_TOKENS, f"{where}.{field}", value, f"over 0, to {MOST_TOKENS}")
            limit = f"below the model's context of {self.spec.max_len} tokens"
            require(value < self.spec.max_len, f"{where}.{field}", value, limit)
        for field in ("ttft_s", "tpot_s"):
            value = getattr(self, field)
            require(value is None or 0 < value < float("inf"), f"{where}.{field}", value, "over 0 and finite")
        require(0 < self.weight <= MOST_WEIGHT, f"{where}.weight", self.weight, f"over 0, to {MOST_WEIGHT}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Nodes with the same number of the same devices. A mesh lies within a node.

    Args:
      usable: most devices that may be used, wherever they are; None for all.
      price: of a device, in whatever unit the pools of a cluster have in common, such as dollars an hour.
    Raises:
      ConfigError: no node, or no device in one, or more than a search can look at.
    """

    chip: Chip
    nodes: int
    devices_per_node: int
    usable: int | None = None
    price: float = 1.0

    def __post_init__(self):
        for field, most in (("nodes", MOST_NODES), ("devices_per_node", MOST_DEVICES_PER_NODE)):
            require(1 <= getattr(self, field) <= most, f"cluster.{field}", getattr(self, field), f"1 to {most}")
        limit = f"at most {MOST_DEVICES // self.devices_per_node}, for {MOST_DEVICES} devices in all: a node has {self.devices_per_node}"
        require(self.there <= MOST_DEVICES, "cluster.nodes", self.nodes, limit)
        require(self.usable is None or 0 <= self.usable <= self.there, "cluster.usable", self.usable, f"0 to {self.there}")
        require(0 < self.price <= MOST_PRICE, "cluster.price", self.price, f"over 0, to {MOST_PRICE:g}")

    @property
    def there(self) -> int:
        """Devices, usable or not."""
        return self.nodes * self.devices_per_node

    @property
    def devices(self) -> int:
        """That may be used."""
        return self.there if self.usable is None else self.usable


@dataclass(frozen=True, slots=True)
class Cluster:
    """Pools of nodes, each with devices of its own kind. They are known by their places, and their devices' numbers follow each other.

    Raises:
      ConfigError: no pool, or too many, or no device that may be used, or more than a search can look at.
    """

    pools: tuple[Pool, ...]

    def __post_init__(self):
        require(1 <= len(self.pools) <= MOST_POOLS, "cluster", f"{len(self.pools)} kinds of nodes", f"1 to {MOST_POOLS}")
        limit = f"so many that there are 1 to {MOST_DEVICES} devices in all"
        require(1 <= self.devices <= MOST_DEVICES, "cluster.nodes", f"{self.devices} devices", limit)

    @classmethod
    def uniform(cls, **pool: Any) -> "Cluster":
        """Of one pool, whose fields are given."""
        return cls((Pool(**pool),))

    @property
    def devices(self) -> int:
        """That may be used."""
        return sum(pool.devices for pool in self.pools)

    @property
    def price(self) -> float:
        """Of all devices that may be used."""
        return sum(pool.price * pool.devices for pool in self.pools)

    @property
    def chips(self) -> tuple[Chip, ...]:
        """By pool."""
        return tuple(pool.chip for pool in self.pools)

    def first(self, pool: int) -> int:
        """Number of the pool's first device."""
        return sum(before.there for before in self.pools[:pool])


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """LLMs to be placed on a cluster.

    Args:
      memory_frac: of each device's memory, for weights and cache.
      max_batch: most sequences of an LLM that decode at a time.
      fairness: the bound eps of equation 2 on the difference, within a unit, of two LLMs' shares of the head blocks over their shares
        of what the unit's demands ask for; infinity for no bound.
      objective: what is best, one of `GOALS`.
      lanes: LLMs that share one device run on lanes of it, beside each other, as the engine has them unless told otherwise; else in turns.
    Raises:
      ConfigError: no LLM, or too many, or two of one name, or a value outside its range.
    """

    demands: tuple[Demand, ...]
    cluster: Cluster
    memory_frac: float = 0.9
    max_batch: int = 256
    fairness: float = float("inf")
    lanes: bool = True
    objective: str = "balanced"

    def __post_init__(self):
        require(1 <= len(self.demands) <= MOST_MODELS, "models", len(self.demands), f"at least one, at most {MOST_MODELS}")
        names = Counter(demand.name for demand in self.demands)
        twice = sorted(name for name, count in names.items() if count > 1)
        require(not twice, "models", ", ".join(twice), "named once each")
        require(0 < self.memory_frac <= 1, "memory_frac", self.memory_frac, "over 0, to 1")
        require(1 <= self.max_batch <= MOST_BATCH, "max_batch", self.max_batch, f"1 to {MOST_BATCH}")
        require(self.fairness > 0, "fairness", self.fairness, "over 0")
        require(self.objective in GOALS, "objective", self.objective, "one of " + ", ".join(GOALS))

    @property
    def cut(self) -> list[str]:
        """LLMs whose mean request is longer than their context: an engine ends such answers there."""
        return [one.name for one in self.demands if one.prompt_tokens + one.output_tokens > one.spec.max_len]

    def device_bytes(self, pool: int = 0) -> int:
        """Memory of each device of a pool for weights and cache."""
        return int(self.memory_frac * self.cluster.pools[pool].chip.memory_bytes)

    def mesh(self, demand: Demand, tp: int = 1, pool: int = 0) -> MeshSpec:
        """So many devices of a pool, with the LLM as it is held: what a quantised one does not have in fewer bits has 16."""
        return MeshSpec(
            chip=self.cluster.pools[pool].chip,
            tp=tp,
            bytes_per_weight=PRECISIONS["bf16" if demand.spec.quantization else demand.weights],
            bytes_per_kv=int(PRECISIONS[demand.cache]),
        )

    def demand(self, name: str) -> Demand:
        """The demand of the LLM of that name.

        Raises:
          ConfigError: there is none.
        """
        for demand in self.demands:
            if demand.name == name:
                return demand
        raise ConfigError(f"model must be one of {', '.join(demand.name for demand in self.demands)}, got {name!r}", field="model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Requests of one LLM as they were measured; None for what was not."""

    rate_rps: float
    prompt_tokens: float | None = None
    output_tokens: float | None = None


def with_models(problem: Problem, names: Collection[str]) -> Problem:
    """The problem of those of its LLMs alone.

    Raises:
      ConfigError: it has none of them.
    """
    return replace(problem, demands=tuple(demand for demand in problem.demands if demand.name in names))


def with_loads(problem: Problem, loads: Mapping[str, Load]) -> Problem:
    """The problem with other requests of the LLMs named.

    Raises:
      ConfigError: an LLM that the problem does not have, or a value outside its range.
    """
    for name in loads:
        problem.demand(name)

    def loaded(demand: Demand) -> Demand:
        known = asdict(loads[demand.name]) if demand.name in loads else {}
        return replace(demand, **{field: value for field, value in known.items() if value is not None})

    return replace(problem, demands=tuple(map(loaded, problem.demands)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An LLM in a unit, or one replica of it.

    Args:
      rate_rps: the part of its demand that this unit is to serve.
      devices: of the unit's mesh, that hold its weights: as many as its tensor-parallel degree.
      sm_share: of the multiprocessors, that its decodes need to keep up with the rate, in (0, 1].
      weights, cache: how the placement has it held, of PRECISIONS.
    """

    model: str
    rate_rps: float
    devices: tuple[int, ...]
    sm_share: float = 1.0
    weights: str = "bf16"
    cache: str = "bf16"

    @property
    def tp(self) -> int:
        """Degree of tensor parallelism."""
        return len(self.devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPlan:
    """A mesh of so many devices of one node, and the LLMs that share it; no LLM twice.

    Args:
      first_device: its number in the cluster, where a node's devices, and nodes, follow each other: the mesh has it and those after
        it, and device d of `Placed.devices` is first_device + d. None where nobody has laid the meshes out.
      pool: of the cluster, in which it lies.
    """

    devices: int
    members: tuple[Placed, ...] = ()
    first_device: int | None = None
    pool: int = 0

    def numbers(self, placed: Placed) -> tuple[int, ...]:
        """Devices of one of its LLMs, by their numbers in the cluster where those are known, else in the mesh."""
        return tuple((self.first_device or 0) + device for device in placed.devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Units of a cluster; the sizes of their meshes can be packed into its nodes.

    Args:
      chips: names of the devices of each pool, as the problem has them; empty where nobody has said.
    """

    units: tuple[UnitPlan, ...]
    chips: tuple[str, ...] = ()

    def chip(self, unit: UnitPlan) -> str:
        """Name of the unit's devices; empty where nobody has said."""
        return self.chips[unit.pool] if unit.pool < len(self.chips) else ""
