"""Algorithm 2: for each LLM and degree of tensor parallelism, the least share of the multiprocessors that meets its rate.

Source: MuxServe (arXiv 2404.02015), algorithm 2.
"""

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from muxjax.cost.chip import MeshSpec
from muxjax.cost.cost_model import CostModel
from muxjax.cost.roofline import weight_bytes
from muxjax.errors import ConfigError
from muxjax.model_spec import ModelSpec
from muxjax.placement.cluster import Mesh, mesh_sizes
from muxjax.placement.estimate.estimator import Estimator
from muxjax.placement.problem import Demand, Placed, Problem, UnitPlan

SM_SHARES = tuple(tenths / 10 for tenths in range(1, 11))
"""Shares that are tried, ascending: more never serve less, so the least is found by halving."""

_CAPPED_SHARE = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
_CAPPED_SPEED = (0.0, 0.5, 0.6, 0.74, 0.87, 0.92, 0.92, 1.0)
"""Decode of 32 rows under an MPS cap on one H200, over its speed without one; the two points that fell with the share are averaged."""


def decode_speed(sm_share: float) -> float:
    """Speed of decodes that may use that share of the multiprocessors, over their speed with all: they wait for memory, and half suffices.

    Linear between points measured on one H200, and below them through zero.
    """
    return float(np.interp(sm_share, _CAPPED_SHARE, _CAPPED_SPEED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A way to run an LLM: its degree of tensor parallelism, what it serves with a mesh for itself, what that is worth in requests a second
    within its targets, and whether that is its rate."""

    tp: int
    throughput_rps: float
    in_time_rps: float
    meets_rate: bool


class Alone(NamedTuple):
    """What an LLM alone on a mesh serves, and what that is worth within its targets (`goals.in_time`)."""

    throughput_rps: float
    in_time_rps: float


EstimateAlone = Callable[[Demand, float, Mesh, float], Alone | None]
"""Of (LLM, its rate_rps, mesh, SM share); None if the weights do not fit."""


def estimate_alone(problem: Problem, costs: CostModel) -> EstimateAlone:
    """By the estimator, with decodes as much slower as `decode_speed` tells."""
    estimators: dict[float, Estimator] = {}

    def alone(demand: Demand, rate_rps: float, mesh: Mesh, sm_share: float) -> Alone | None:
        estimator = estimators.setdefault(sm_share, Estimator(problem, _Capped(costs, decode_speed(sm_share))))
        try:
            placed = Placed(model=demand.name, rate_rps=rate_rps, devices=tuple(range(mesh.devices)), sm_share=sm_share)
            found = estimator.estimate(UnitPlan(devices=mesh.devices, pool=mesh.pool, members=(placed,))).models[demand.name]
            return Alone(found.throughput_rps, found.throughput_rps * found.in_time(demand))
        except ConfigError:
            return None

    return alone


@dataclass(frozen=True, slots=True)
class _Capped:
    """`CostModel` where decodes have that speed, of what they would have with all multiprocessors."""

    costs: CostModel
    speed: float

    def prefill_s(self, spec: ModelSpec, mesh: MeshSpec, tokens: int, context: float) -> float:
        return self.costs.prefill_s(spec, mesh, tokens, context)

    def decode_s(self, spec: ModelSpec, mesh: MeshSpec, batch: int, context_tokens: int) -> float:
        return self.costs.decode_s(spec, mesh, batch, context_tokens) / self.speed


class Candidates:
    """Candidates of all LLMs of a problem, each worked out once.

    Raises:
      ConfigError: an LLM fits no mesh of the cluster.
    """

    def __init__(self, problem: Problem, alone: EstimateAlone):
        self._demands: Mapping[str, Demand] = {demand.name: demand for demand in problem.demands}
        self._sizes = [tuple(reversed(mesh_sizes(pool))) for pool in problem.cluster.pools]
        self._alone = alone
        self._known: dict[tuple[str, float, int], tuple[Candidate, ...]] = {}
        self._degrees: dict[tuple[str, Mesh, float], tuple[int, ...]] = {}
        self._sm_shares: dict[tuple[str, float, Mesh], float] = {}
        for demand in problem.demands:
            if not any(self.of(demand.name, pool=pool) for pool in range(len(self._sizes))):
                raise ConfigError(_fits_no_mesh(demand, problem, self._sizes), field=f"models.{demand.name}")

    def of(self, model: str, parts: float = 1, pool: int = 0) -> tuple[Candidate, ...]:
        """In a pool, by degree, ascending, for one of so many replicas that share the rate."""
        key = (model, parts, pool)
        if key not in self._known:
            candidates = (self._candidate(self._demands[model], parts, Mesh(tp, pool)) for tp in self._sizes[pool])
            self._known[key] = tuple(candidate for candidate in candidates if candidate is not None)
        return self._known[key]

    def on(self, model: str, mesh: Mesh, parts: float = 1) -> list[Candidate]:
        """Those with a degree that the mesh has devices for."""
        return [candidate for candidate in self.of(model, parts, mesh.pool) if candidate.tp <= mesh.devices]

    def degrees(self, model: str, mesh: Mesh, parts: float = 1) -> tuple[int, ...]:
        """Worth trying on a mesh: the largest that the model splits into, then, descending, down to the least that meets the rate; all of
        them where none does."""
        key = (model, mesh, parts)
        if key not in self._degrees:
            fitting = self.on(model, mesh, parts)
            least = next((candidate.tp for candidate in fitting if candidate.meets_rate), 1)
            self._degrees[key] = tuple(candidate.tp for candidate in reversed(fitting) if candidate.tp >= least)
        return self._degrees[key]

    def sm_share(self, model: str, parts: float, mesh: Mesh) -> float:
        """The least of SM_SHARES that meets the rate on all devices of such a mesh, else all."""
        key = (model, parts, mesh)
        if key not in self._sm_shares:
            demand = self._demands[model]
            rate_rps = demand.rate_rps / parts
            least = bisect.bisect_left(SM_SHARES[:-1], True, key=lambda share: _meets(self._alone(demand, rate_rps, mesh, share), rate_rps))
            self._sm_shares[key] = SM_SHARES[least]
        return self._sm_shares[key]

    def _candidate(self, demand: Demand, parts: float, mesh: Mesh) -> Candidate | None:
        if not demand.spec.splits(mesh.devices):
            return None
        rate_rps = demand.rate_rps / parts
        alone = self._alone(demand, rate_rps, mesh, 1.0)
        return None if alone is None else Candidate(tp=mesh.devices, **alone._asdict(), meets_rate=_meets(alone, rate_rps))


def _meets(alone: Alone | None, rate_rps: float) -> bool:
    return alone is not None and alone.in_time_rps >= rate_rps * (1 - 1e-9)


def _fits_no_mesh(demand: Demand, problem: Problem, sizes: Sequence[tuple[int, ...]]) -> str:
    """Told of the pool that comes nearest: where most of the devices' memory is left, or least is lacking."""
    most = {pool: max(tp for tp in degrees if demand.spec.splits(tp)) for pool, degrees in enumerate(sizes) if degrees}
    needed = {pool: weight_bytes(demand.spec, problem.mesh(demand, tp, pool)) for pool, tp in most.items()}
    pool = max(needed, key=lambda pool: problem.device_bytes(pool) - needed[pool])
    ffns = ", ".join(map(str, dict.fromkeys(tuple(demand.spec.split_sizes.values())[1:])))
    return (
        f"models.{demand.name} fits no mesh: at tensor parallelism {most[pool]}, the most that its {demand.spec.kv_heads} kv heads, "
        f"its FFN of {ffns} and a node allow, its weights and the cache of one request need over {needed[pool]} bytes a device, "
        f"and {problem.device_bytes(pool)} bytes are there"
    )
