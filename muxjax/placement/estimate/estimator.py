"""Estimate of what a unit serves, F of equation 2: batches, throughput and latencies of LLMs that share devices.

A unit works in turns, as ADBS does: in a turn every LLM decodes once, and the prompts that came in the meantime are prefilled, all of
it one after another. The longer the turns, the larger the batches that a rate keeps alive, and the less a token costs; the estimate is
the shortest turn in which the devices get all of it done. Where the head blocks do not hold those batches, each LLM holds what it needs
up to a level that is the same for all, which is what quotas that follow use come to.

Its error against the simulator, and that of equation 3 of MuxServe: docs/results/estimator/README.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from muxjax.cost.chip import MeshSpec
from muxjax.cost.cost_model import CostModel
from muxjax.cost.roofline import weight_bytes
from muxjax.errors import ConfigError
from muxjax.placement.estimate.curves import TURNS_S, Curves, curves, sequence_blocks
from muxjax.placement.estimate.device_memory import Held, Share, shares
from muxjax.placement.problem import Demand, Placed, Problem, UnitPlan

LOOK_AHEAD = 2
"""Turns that are launched already when a request comes; it is in none of them."""

SHORTER = float(TURNS_S[0] / TURNS_S[1])
"""A turn over the next longer one: the shortest that suffices lies between the two."""

STRIDE = 16
"""Stride of a first look along the turns."""

NEARLY = 0.99
"""Share of its demand: who serves less has a queue that grows for ever."""


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


def estimate(problem: Problem, costs: CostModel, unit: UnitPlan) -> UnitEstimate:
    """Estimate of the unit. Who asks for many units of a problem keeps an `Estimator`.

    Raises:
      ConfigError: weights or one sequence do not fit, or a degree does not divide kv heads.
    """
    return Estimator(problem, costs).estimate(unit)


def score(problem: Problem, costs: CostModel) -> Callable[[UnitPlan], float]:
    """F of units of the problem; minus infinity for one that cannot be, or only with more than the problem's unfairness."""
    estimator = Estimator(problem, costs)

    def of(unit: UnitPlan) -> float:
        try:
            result = estimator.estimate(unit)
        except ConfigError:
            return float("-inf")
        return result.throughput_rps if result.unfairness <= problem.fairness else float("-inf")

    return of


@dataclass(frozen=True, slots=True)
class _Part:
    """An LLM at a rate on so many devices."""

    demand: Demand
    rate_rps: float
    tp: int
    curves: Curves
    held: Held


class Estimator:
    """Estimates of units of one problem; what depends on one LLM alone is computed once."""

    def __init__(self, problem: Problem, costs: CostModel):
        self._problem, self._costs = problem, costs
        self._demands = {demand.name: demand for demand in problem.demands}
        self._parts: dict[tuple[str, float, int], _Part] = {}

    def estimate(self, unit: UnitPlan) -> UnitEstimate:
        """See `estimate`. The order of the members changes nothing, to the last bit."""
        unit = replace(unit, members=tuple(sorted(unit.members, key=lambda placed: (placed.model, placed.rate_rps, placed.devices))))
        parts = [self._part(placed) for placed in unit.members]
        memory = shares(unit, [part.held for part in parts], self._problem.device_bytes)
        models = {part.demand.name: _model(part, pace) for part, pace in zip(parts, _paces(parts, memory), strict=True)}
        return UnitEstimate(
            models=models,
            total_blocks=sum(share.count * share.blocks for share in memory),
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
                Held(weight_bytes=weight_bytes(demand.spec, mesh), sequence_blocks=sequence_blocks(demand, placed.tp)),
            )
        return self._parts[key]


@dataclass(frozen=True, slots=True)
class _Pace:
    """How an LLM goes on.

    Args:
      use: of the time of its busiest device, by all on it; over 1 where a turn takes longer than it should.
    """

    batch: float
    token_s: float
    use: float


def _paces(parts: Sequence[_Part], memory: Sequence[Share]) -> list[_Pace]:
    """Paces of the LLMs: its turn is the longest of its devices', its batch the smallest that they have blocks for."""
    at, level = np.zeros(len(parts), np.int64), np.full(len(parts), np.inf)
    for share in memory:
        turn, blocks = _turn([parts[i] for i in share.members], share.blocks) if share.members else (0, np.inf)
        for i in share.members:
            at[i], level[i] = max(at[i], turn), min(level[i], blocks)
    token_s = [float(part.curves.token_s[i]) for part, i in zip(parts, at, strict=True)]
    batch = [min(float(p.curves.batch[i]), most / p.held.sequence_blocks) for p, i, most in zip(parts, at, level.tolist(), strict=True)]
    busy = [_busy(*values) for values in zip(parts, at.tolist(), batch, token_s, strict=True)]
    use = np.zeros(len(parts))
    for share in memory:
        total = sum(busy[i] for i in share.members)
        for i in share.members:
            use[i] = max(use[i], total)
    return [_Pace(*values) for values in zip(batch, token_s, use.tolist(), strict=True)]


def _busy(part: _Part, at: int, batch: float, token_s: float) -> float:
    """Share of its devices' time, in turns of that length."""
    whole = batch == part.curves.batch[at]
    busy_s = part.curves.busy_s[at] if whole else part.curves.steps.busy_s(np.array(batch), np.array(token_s), TURNS_S[at])
    return float(busy_s / TURNS_S[at])


def _turn(parts: Sequence[_Part], blocks: int) -> tuple[int, float]:
    """Place among TURNS_S of the shortest turn in which all of the LLMs on the same devices gets done, the longest if there is none; and
    the head blocks that none of them holds more of."""
    busy_s = np.add.reduce([part.curves.busy_s for part in parts])
    long = _first(busy_s <= TURNS_S)
    needs = np.array([part.curves.batch[: long + 1] * part.held.sequence_blocks for part in parts])
    needed = needs.sum(axis=0)
    if needed[-1] <= blocks:
        return long, np.inf
    low, high = max(0, int(np.searchsorted(needed, blocks, side="right")) - 1), long
    for stride in (STRIDE, 1):
        places = np.append(np.arange(low, high, stride), high)
        level = _level(needs[:, places], blocks)
        busy_s = np.add.reduce([_capped_busy_s(part, places, level) for part in parts])
        first = _first(busy_s <= TURNS_S[places])
        low, high = places[max(0, first - 1)], places[first]
    return int(high), float(level[first])


def _capped_busy_s(part: _Part, places: np.ndarray, level: np.ndarray) -> np.ndarray:
    """In turns of those lengths, where it holds no more blocks than the level."""
    batch = np.minimum(part.curves.batch[places], level / part.held.sequence_blocks)
    return part.curves.steps.busy_s(batch, part.curves.token_s[places], TURNS_S[places])


def _level(needs: np.ndarray, blocks: int) -> np.ndarray:
    """[G] blocks up to which each of the needs [LLMs, G] is met so that all are given out; over the needs where they suffice."""
    ascending = np.sort(needs, axis=0)
    left = blocks - np.cumsum(ascending, axis=0) + ascending  # when those that need less have got it
    return (left / np.arange(len(needs), 0, -1)[:, None]).max(axis=0)


def _first(holds: np.ndarray) -> int:
    """Where it is true first; the last place if nowhere."""
    return int(np.argmax(holds)) if holds.any() else len(holds) - 1


def _model(part: _Part, pace: _Pace) -> ModelEstimate:
    steps, tpot_s = part.curves.steps, pace.token_s * max(SHORTER, pace.use)
    throughput_rps = min(part.rate_rps, pace.batch / (part.demand.output_tokens * tpot_s))
    met = throughput_rps >= NEARLY * part.rate_rps
    return ModelEstimate(
        throughput_rps=throughput_rps,
        batch=pace.batch,
        blocks=pace.batch * part.held.sequence_blocks * part.tp,
        ttft_s=steps.one_s + LOOK_AHEAD * min(1.0, pace.use) * tpot_s if met else float("inf"),
        tpot_s=tpot_s,
        sm_share=min(1.0, float(steps.decode_s(np.array(pace.batch))) / tpot_s),
    )


def _unfairness(parts: Sequence[_Part], models: Sequence[ModelEstimate]) -> float:
    asked = np.array(
        [p.rate_rps * p.demand.output_tokens * m.tpot_s * p.held.sequence_blocks * p.tp for p, m in zip(parts, models, strict=True)]
    )
    held = np.array([model.blocks for model in models])
    if not len(held):
        return 0.0
    share = (held / held.sum()) / (asked / asked.sum())
    return float(share.max() - share.min())
