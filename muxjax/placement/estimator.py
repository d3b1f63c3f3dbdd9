"""What a unit serves, F of equation 2: batches, throughput and latencies of LLMs that share devices.

A unit works in turns, as ADBS does: in a turn every LLM decodes once, and the prompts that came in the meantime are prefilled, all of
it one after another. The longer the turns, the larger the batches that a rate keeps alive, and the less a token costs; the estimate is
the shortest turn in which the devices get all of it done, or the longest one whose batches the head blocks can hold.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from muxjax.cache.layout import BLOCK_BYTES
from muxjax.errors import ConfigError
from muxjax.placement.cost import MeshSpec, weight_bytes
from muxjax.placement.costs import Costs
from muxjax.placement.curves import TURNS_S, Curves, curves, sequence_blocks
from muxjax.placement.problem import Demand, Placed, Problem, UnitPlan
from muxjax.units import show_bytes

NEARLY = 0.99
"""Of its demand: who serves less has a queue that grows for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEstimate:
    """An LLM of a unit, in the steady state.

    Args:
      batch: sequences that decode at a time, in the mean; blocks: head blocks that they hold, over all its devices.
      ttft_s: in the mean; infinite where the demand is not met.
      sm_share: of its devices' time, for its decodes.
    """

    throughput_rps: float
    batch: float
    blocks: float
    ttft_s: float
    tpot_s: float
    sm_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitEstimate:
    """A unit in the steady state.

    Args:
      models: by name.
      total_blocks: head blocks for the cache, over all devices of the unit.
      unfairness: the largest difference of two LLMs' R of equation 2: the share of the blocks in use over the share of what the
        rates ask for. 0 where demand is met, and where all are short alike.
    """

    models: Mapping[str, ModelEstimate]
    total_blocks: int
    unfairness: float

    @property
    def throughput_rps(self) -> float:
        """F of equation 2."""
        return sum(model.throughput_rps for model in self.models.values())


def estimate(problem: Problem, costs: Costs, unit: UnitPlan) -> UnitEstimate:
    """What the unit serves. Who asks for many units of a problem keeps an `Estimator`.

    Raises:
      ConfigError: weights or one sequence do not fit, or a degree does not divide kv heads.
    """
    return Estimator(problem, costs).estimate(unit)


def score(problem: Problem, costs: Costs) -> Callable[[UnitPlan], float]:
    """F of units of the problem; minus infinity for one that cannot be, or only with more than the problem's unfairness."""
    estimator = Estimator(problem, costs)

    def of(unit: UnitPlan) -> float:
        try:
            found = estimator.estimate(unit)
        except ConfigError:
            return float("-inf")
        return found.throughput_rps if found.unfairness <= problem.fairness else float("-inf")

    return of


@dataclass(frozen=True, slots=True)
class _Part:
    """An LLM at a rate on so many devices."""

    demand: Demand
    rate_rps: float
    tp: int
    curves: Curves
    weight_bytes: int
    sequence_blocks: int


@dataclass(frozen=True, slots=True)
class _Share:
    """`count` devices that have the same LLMs.

    Args:
      members: positions in the unit; blocks: of each device.
    """

    members: tuple[int, ...]
    count: int
    blocks: int


class Estimator:
    """Estimates of units of one problem; what depends on one LLM alone is computed once."""

    def __init__(self, problem: Problem, costs: Costs):
        self._problem, self._costs = problem, costs
        self._demands = {demand.name: demand for demand in problem.demands}
        self._parts: dict[tuple[str, float, int], _Part] = {}

    def estimate(self, unit: UnitPlan) -> UnitEstimate:
        """See `estimate`."""
        parts = [self._part(placed) for placed in unit.members]
        shares = self._shares(unit, parts)
        at, stretch = _steady(parts, shares)
        models = {part.demand.name: _model(part, int(i), float(s)) for part, i, s in zip(parts, at, stretch, strict=True)}
        return UnitEstimate(
            models=models,
            total_blocks=sum(share.count * share.blocks for share in shares),
            unfairness=_unfairness(parts, list(models.values())),
        )

    def _part(self, placed: Placed) -> _Part:
        key = placed.model, placed.rate_rps, placed.tp
        if key not in self._parts:
            demand = self._demands[placed.model]
            mesh = MeshSpec(chip=self._problem.cluster.chip, tp=placed.tp)
            self._parts[key] = _Part(
                demand,
                placed.rate_rps,
                placed.tp,
                curves(demand, placed.rate_rps, mesh, self._costs, self._problem.max_batch),
                weight_bytes(demand.spec, mesh),
                sequence_blocks(demand, placed.tp),
            )
        return self._parts[key]

    def _shares(self, unit: UnitPlan, parts: Sequence[_Part]) -> list[_Share]:
        """The devices of the unit by who is on them."""
        on: list[list[int]] = [[] for _ in range(unit.devices)]
        for i, placed in enumerate(unit.members):
            for device in placed.devices:
                on[device].append(i)
        groups = [tuple(members) for members in on]
        return [_Share(members, groups.count(members), self._blocks(members, parts)) for members in dict.fromkeys(groups)]

    def _blocks(self, members: Sequence[int], parts: Sequence[_Part]) -> int:
        """Head blocks on one device beside the weights of those LLMs.

        Raises:
          ConfigError: not even the longest of their mean sequences fits.
        """
        have = self._problem.device_bytes
        weights = sum(parts[i].weight_bytes for i in members)
        need = weights + BLOCK_BYTES * max((parts[i].sequence_blocks for i in members), default=0)
        if need > have:
            names = ", ".join(parts[i].demand.name for i in members)
            raise ConfigError(
                f"weights and a sequence of {names} need {show_bytes(need)} on a device of {show_bytes(have)}", field="devices"
            )
        return (have - weights) // BLOCK_BYTES


def _steady(parts: Sequence[_Part], shares: Sequence[_Share]) -> tuple[np.ndarray, np.ndarray]:
    """Where on its curves each LLM is, and how much longer than that turn its devices take: 1 unless head blocks are short."""
    short, long = np.full(len(parts), len(TURNS_S) - 1), np.zeros(len(parts), np.int64)
    for share in filter(lambda share: share.members, shares):
        members = list(share.members)
        blocks = np.add.reduce([parts[i].curves.batch * parts[i].sequence_blocks for i in members])
        busy_s = np.add.reduce([parts[i].curves.busy_s for i in members])
        done = busy_s <= TURNS_S
        short[members] = np.minimum(short[members], max(0, int(np.searchsorted(blocks, share.blocks, side="right")) - 1))
        long[members] = np.maximum(long[members], int(np.argmax(done)) if done.any() else len(TURNS_S) - 1)
    at, stretch = np.minimum(short, long), np.ones(len(parts))
    for share in shares:
        use = sum(float(parts[i].curves.busy_s[at[i]] / TURNS_S[at[i]]) for i in share.members)
        for i in share.members:
            stretch[i] = max(stretch[i], use)
    return at, stretch


def _model(part: _Part, at: int, stretch: float) -> ModelEstimate:
    found = part.curves
    batch, tpot_s = float(found.batch[at]), float(found.token_s[at]) * stretch
    throughput_rps = min(part.rate_rps, batch / (part.demand.output_tokens * tpot_s))
    return ModelEstimate(
        throughput_rps=throughput_rps,
        batch=batch,
        blocks=batch * part.sequence_blocks * part.tp,
        ttft_s=found.prefill_s + tpot_s if throughput_rps >= NEARLY * part.rate_rps else float("inf"),
        tpot_s=tpot_s,
        sm_share=min(1.0, float(found.decode_s[at]) / tpot_s),
    )


def _unfairness(parts: Sequence[_Part], models: Sequence[ModelEstimate]) -> float:
    asked = np.array(
        [p.rate_rps * p.demand.output_tokens * m.tpot_s * p.sequence_blocks * p.tp for p, m in zip(parts, models, strict=True)]
    )
    held = np.array([model.blocks for model in models])
    if not len(held):
        return 0.0
    share = (held / held.sum()) / (asked / asked.sum())
    return float(share.max() - share.min())
