"""Estimate of what a unit serves, F of equation 2: batches, throughput and latencies of LLMs that share devices.

A unit works in turns, as ADBS does: in a turn every LLM decodes once, and the prompts that came in the meantime are prefilled, all of
it one after another. The longer the turns, the larger the batches that a rate keeps alive, and the less a token costs; the estimate is
the shortest turn in which the devices get all of it done. Where the head blocks do not hold those batches, each LLM holds what it needs
up to a level that is the same for all, which is what quotas that follow use come to.

LLMs that have one device together run on lanes of it, beside each other. Then it is not their steps that take turns but their layers
(`muxjax/cost/contention.py`, which docs/results/simulator-truth holds against the engine): a turn of each lasts as long as it has layers,
a decode that waits for memory leaves others part of its time, and no turn is shorter than what is the LLM's own. An LLM alone, or on
several devices, has no lanes beside it; more LLMs than the engine has lanes are estimated as if each had its own.

Prompts of a step are as many as the engine's. Two terms of the simulator are left out: the host's time, which is less than a step's and
goes by beside it, and the padding of steps.

Its error against the simulator, and that of equation 3 of MuxServe: docs/results/estimator/README.md.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from muxjax.cost.chip import MeshSpec
from muxjax.cost.cost_model import CostModel
from muxjax.cost.roofline import weight_bytes
from muxjax.placement import goals
from muxjax.placement.estimate.curves import TURNS_S, Curves, Steps, curves, sequence_blocks
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

    def in_time(self, demand: Demand) -> float:
        """What its requests are worth by the targets of the demand, see `goals.in_time`: 1 where it keeps them."""
        return goals.in_time(self.ttft_s, self.tpot_s, demand.ttft_s, demand.tpot_s)


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


@dataclass(frozen=True, slots=True)
class _Part:
    """An LLM at a rate on so many devices, the `number`th that was asked for."""

    number: int
    demand: Demand
    rate_rps: float
    tp: int
    curves: Curves
    held: Held

    @property
    def needs(self) -> np.ndarray:
        """[G] head blocks in turns of TURNS_S."""
        return self.curves.batch * self.held.sequence_blocks


class Estimator:
    """Estimates of units of one problem; what depends on one LLM alone is computed once."""

    def __init__(self, problem: Problem, costs: CostModel):
        self._problem, self._costs = problem, costs
        self._demands = {demand.name: demand for demand in problem.demands}
        self._parts: dict[tuple[str, float, int, bool], _Part] = {}
        self._turns: dict[tuple[int, ...], tuple[int, float]] = {}

    def estimate(self, unit: UnitPlan) -> UnitEstimate:
        """See `estimate`. The order of the members changes nothing, to the last bit."""
        unit = replace(unit, members=tuple(sorted(unit.members, key=lambda placed: (placed.model, placed.rate_rps, placed.devices))))
        lanes = _on_lanes(unit.members) if self._problem.lanes else [False] * len(unit.members)
        parts = [self._part(placed, on_lane) for placed, on_lane in zip(unit.members, lanes, strict=True)]
        memory = shares(unit, [part.held for part in parts], self._problem.device_bytes)
        models = self._models(parts, memory) if parts else {}
        return UnitEstimate(
            models=models,
            total_blocks=sum(share.count * share.blocks for share in memory),
            unfairness=_unfairness(parts, list(models.values())),
        )

    def _models(self, parts: Sequence["_Part"], memory: Sequence[Share]) -> dict[str, ModelEstimate]:
        """An LLM's turn is the longest of its devices', its batch the smallest that they have blocks for."""
        at, level = [0] * len(parts), [np.inf] * len(parts)
        for share in memory:
            turn, blocks = self._turn([parts[i] for i in share.members], share.blocks) if share.members else (0, np.inf)
            for i in share.members:
                at[i], level[i] = max(at[i], turn), min(level[i], blocks)
        return {part.demand.name: _model(part, pace) for part, pace in zip(parts, _paces(parts, at, level, memory), strict=True)}

    def _turn(self, parts: Sequence["_Part"], blocks: int) -> tuple[int, float]:
        """See `_turn`; devices with the same LLMs, which have the same blocks, are in many units."""
        key = tuple(part.number for part in parts)
        if key not in self._turns:
            self._turns[key] = _turn(parts, blocks)
        return self._turns[key]

    def _part(self, placed: Placed, on_lane: bool) -> _Part:
        key = placed.model, placed.rate_rps, placed.tp, on_lane
        if key not in self._parts:
            demand = self._demands[placed.model]
            mesh = MeshSpec(chip=self._problem.cluster.chip, tp=placed.tp)
            self._parts[key] = _Part(
                len(self._parts),
                demand,
                placed.rate_rps,
                placed.tp,
                curves(demand, placed.rate_rps, mesh, self._costs, self._problem.max_batch, on_lane=on_lane),
                Held(weight_bytes=weight_bytes(demand.spec, mesh), sequence_blocks=sequence_blocks(demand, placed.tp)),
            )
        return self._parts[key]


def _on_lanes(members: Sequence[Placed]) -> list[bool]:
    """Who has others beside it on its device, none of which has further devices."""
    count = Counter(device for placed in members for device in placed.devices)
    wide = {device for placed in members if placed.tp > 1 for device in placed.devices}
    return [placed.tp == 1 and count[placed.devices[0]] > 1 and placed.devices[0] not in wide for placed in members]


@dataclass(frozen=True, slots=True)
class _Pace:
    """How an LLM goes on.

    Args:
      decode_s: of its decodes in a turn.
      use: of the time of its busiest device, by all on it; over 1 where a turn takes longer than it should.
    """

    batch: float
    token_s: float
    decode_s: float
    use: float


def _paces(parts: Sequence[_Part], at: Sequence[int], level: Sequence[float], memory: Sequence[Share]) -> list[_Pace]:
    """Paces of the LLMs in those of TURNS_S, each holding no more blocks than its level."""
    steps = Steps.together([part.curves.steps for part in parts])
    turn_s_M1 = np.array([[part.curves.turn_s[i]] for part, i in zip(parts, at, strict=True)])
    token_s = [float(part.curves.token_s[i]) for part, i in zip(parts, at, strict=True)]
    batch = [min(float(p.curves.batch[i]), most / p.held.sequence_blocks) for p, i, most in zip(parts, at, level, strict=True)]
    batch_M1, token_s_M1 = np.array(batch)[:, None], np.array(token_s)[:, None]
    decode_s_M1, hidden_M1 = steps.decode_s(batch_M1), steps.hidden_s(batch_M1) / turn_s_M1
    busy_M1 = (decode_s_M1 + steps.prefills_s(batch_M1, token_s_M1, turn_s_M1)) / turn_s_M1
    use = [0.0] * len(parts)
    for share in memory:
        members = [*share.members]
        total = float(_use(busy_M1[members], hidden_M1[members])[0]) if members else 0.0
        for i in members:
            use[i] = max(use[i], total)
    return [_Pace(*values) for values in zip(batch, token_s, decode_s_M1[:, 0].tolist(), use, strict=True)]


def _turn(parts: Sequence[_Part], blocks: int) -> tuple[int, float]:
    """Place among TURNS_S of the shortest turn in which all of the LLMs on the same devices gets done, the longest if there is none; and
    the head blocks that none of them holds more of."""
    long = _first(_use(np.array([part.curves.busy for part in parts]), np.array([part.curves.hidden for part in parts])) <= 1)
    needs = np.array([part.needs[: long + 1] for part in parts])
    needed = needs.sum(axis=0)
    if needed[-1] <= blocks:
        return long, np.inf
    low, high = max(0, int(np.searchsorted(needed, blocks, side="right")) - 1), long
    steps, sequence_blocks_M1 = Steps.together([part.curves.steps for part in parts]), np.array([[p.held.sequence_blocks] for p in parts])
    for stride in (STRIDE, 1):
        places = np.append(np.arange(low, high, stride), high)
        level = _level(needs[:, places], blocks)
        batch_MG = np.minimum(needs[:, places], level) / sequence_blocks_M1
        token_s_MG = np.array([part.curves.token_s[places] for part in parts])
        turn_s_MG = np.array([part.curves.turn_s[places] for part in parts])
        busy_s_MG = steps.decode_s(batch_MG) + steps.prefills_s(batch_MG, token_s_MG, turn_s_MG)
        first = _first(_use(busy_s_MG / turn_s_MG, steps.hidden_s(batch_MG) / turn_s_MG) <= 1)
        low, high = places[max(0, first - 1)], places[first]
    return int(high), float(level[first])


def _use(busy_MG: np.ndarray, hidden_MG: np.ndarray) -> np.ndarray:
    """[G] share of the turn that the device needs for LLMs, each of which is busy for a share of its own, but for what is hidden."""
    return np.maximum((busy_MG - hidden_MG).sum(axis=0), busy_MG.max(axis=0))


def _level(needs: np.ndarray, blocks: int) -> np.ndarray:
    """[G] blocks up to which each of the needs [LLMs, G] is met so that all are given out; over the needs where they suffice."""
    ascending = np.sort(needs, axis=0)
    left = blocks - np.cumsum(ascending, axis=0) + ascending  # when those that need less have got it
    return (left / np.arange(len(needs), 0, -1)[:, None]).max(axis=0)


def _first(holds: np.ndarray) -> int:
    """Where it is true first; the last place if nowhere."""
    return int(np.argmax(holds)) if holds.any() else len(holds) - 1


def _model(part: _Part, pace: _Pace) -> ModelEstimate:
    tpot_s = pace.token_s * max(SHORTER, pace.use)
    throughput_rps = min(part.rate_rps, pace.batch / (part.demand.output_tokens * tpot_s))
    met = throughput_rps >= NEARLY * part.rate_rps
    return ModelEstimate(
        throughput_rps=throughput_rps,
        batch=pace.batch,
        blocks=pace.batch * part.held.sequence_blocks * part.tp,
        ttft_s=float(part.curves.steps.one_s_M1[0, 0]) + LOOK_AHEAD * min(1.0, pace.use) * tpot_s if met else float("inf"),
        tpot_s=tpot_s,
        sm_share=min(1.0, pace.decode_s / tpot_s),
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
