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

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from muxjax.cost.cost_model import CostModel
from muxjax.cost.roofline import weight_bytes
from muxjax.placement import goals
from muxjax.placement.estimate.curves import TURNS_S, Curves, Turn, curves, sequence_blocks
from muxjax.placement.estimate.device_memory import Held, Share, shares
from muxjax.placement.problem import Demand, Placed, Problem, UnitPlan

LOOK_AHEAD = 2
"""Turns that are launched already when a request comes; it is in none of them."""

SHORTER = float(TURNS_S[0] / TURNS_S[1])
"""A turn over the next longer one: the shortest that suffices lies between the two."""

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

    def needs(self, at: int) -> float:
        """Head blocks in a turn of that place among TURNS_S."""
        return self.curves.batch[at] * self.held.sequence_blocks

    def turn(self, at: int, level: float) -> tuple[float, Turn]:
        """Its batch in such a turn if it holds no more head blocks than the level, and what it does."""
        batch = min(self.curves.batch[at], level / self.held.sequence_blocks)
        return batch, self.curves.steps.turn(batch, self.curves.token_s[at], self.curves.turn_s[at])


class Estimator:
    """Estimates of units of one problem; what depends on one LLM alone is computed once."""

    def __init__(self, problem: Problem, costs: CostModel):
        self._problem, self._costs = problem, costs
        self._demands = {demand.name: demand for demand in problem.demands}
        self._parts: dict[tuple[str, float, int, int, bool], _Part] = {}
        self._turns: dict[tuple[int, ...], tuple[int, float]] = {}

    def estimate(self, unit: UnitPlan) -> UnitEstimate:
        """See `estimate`. The order of the members changes nothing, to the last bit."""
        unit = replace(unit, members=tuple(sorted(unit.members, key=lambda placed: (placed.model, placed.rate_rps, placed.devices))))
        lanes = _on_lanes(unit.members) if self._problem.lanes else [False] * len(unit.members)
        parts = [self._part(placed, unit.pool, on_lane) for placed, on_lane in zip(unit.members, lanes, strict=True)]
        memory = shares(unit, [part.held for part in parts], self._problem.device_bytes(unit.pool))
        models = self._models(parts, memory) if parts else {}
        return UnitEstimate(
            models=models,
            total_blocks=sum(share.count * share.blocks for share in memory),
            unfairness=_unfairness(parts, list(models.values())),
        )

    def _models(self, parts: Sequence["_Part"], memory: Sequence[Share]) -> dict[str, ModelEstimate]:
        """An LLM's turn is the longest of its devices', its batch the smallest that they have blocks for."""
        at, level = [0] * len(parts), [math.inf] * len(parts)
        for share in memory:
            turn, blocks = self._turn([parts[i] for i in share.members], share.blocks) if share.members else (0, math.inf)
            for i in share.members:
                at[i], level[i] = max(at[i], turn), min(level[i], blocks)
        return {part.demand.name: _model(part, pace) for part, pace in zip(parts, _paces(parts, at, level, memory), strict=True)}

    def _turn(self, parts: Sequence["_Part"], blocks: int) -> tuple[int, float]:
        """See `_turn`; devices with the same LLMs, which have the same blocks, are in many units."""
        key = tuple(part.number for part in parts)
        if key not in self._turns:
            self._turns[key] = _turn(parts, blocks)
        return self._turns[key]

    def _part(self, placed: Placed, pool: int, on_lane: bool) -> _Part:
        key = placed.model, placed.rate_rps, placed.tp, pool, on_lane
        if key not in self._parts:
            demand = self._demands[placed.model]
            mesh = self._problem.mesh(demand, placed.tp, pool)
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
    turns = [part.turn(place, most) for part, place, most in zip(parts, at, level, strict=True)]
    loads = [_load(part, place, turn) for part, place, (_, turn) in zip(parts, at, turns, strict=True)]
    use = [0.0] * len(parts)
    for share in memory:
        total = _use([loads[i] for i in share.members])
        for i in share.members:
            use[i] = max(use[i], total)
    return [
        _Pace(batch, part.curves.token_s[place], turn.decode_s, used)
        for part, place, (batch, turn), used in zip(parts, at, turns, use, strict=True)
    ]


def _turn(parts: Sequence[_Part], blocks: int) -> tuple[int, float]:
    """Place among TURNS_S of the shortest turn in which all of the LLMs on the same devices gets done, the longest if there is none; and
    the head blocks that none of them holds more of. Longer turns do at least as much, which is why halving finds it."""
    last = len(TURNS_S) - 1
    long = bisect_left(range(last), True, key=lambda at: _use([(part.curves.busy[at], part.curves.taken[at]) for part in parts]) <= 1)
    if sum(part.needs(long) for part in parts) <= blocks:
        return long, math.inf

    def level(at: int) -> float:
        return _level([part.needs(at) for part in parts], blocks)

    def done(at: int) -> bool:
        most = level(at)
        return _use([_load(part, at, part.turn(at, most)[1]) for part in parts]) <= 1

    fits = bisect_left(range(long), True, key=lambda at: sum(part.needs(at) for part in parts) > blocks)
    at = bisect_left(range(long), True, lo=max(0, fits - 1), key=done)
    return at, level(at)


def _load(part: _Part, at: int, turn: Turn) -> tuple[float, float]:
    """Shares of such a turn that it is busy for, and that it takes of the device."""
    busy_s, turn_s = turn.decode_s + turn.prefill_s, part.curves.turn_s[at]
    return busy_s / turn_s, (busy_s - turn.hidden_s) / turn_s


def _use(loads: Sequence[tuple[float, float]]) -> float:
    """Share of the turn that the device needs for LLMs of those loads, none of which is busy for longer than it lasts."""
    return max(sum(taken for _, taken in loads), max((busy for busy, _ in loads), default=0.0))


def _level(needs: Sequence[float], blocks: int) -> float:
    """Blocks up to which each of the needs is met so that all are given out; over the needs where they suffice."""
    most, left = 0.0, float(blocks)
    for i, need in enumerate(sorted(needs)):  # when those that need less have got it
        most, left = max(most, left / (len(needs) - i)), left - need
    return most


def _model(part: _Part, pace: _Pace) -> ModelEstimate:
    tpot_s = pace.token_s * max(SHORTER, pace.use)
    throughput_rps = min(part.rate_rps, pace.batch / (part.demand.output_tokens * tpot_s))
    met = throughput_rps >= NEARLY * part.rate_rps
    return ModelEstimate(
        throughput_rps=throughput_rps,
        batch=pace.batch,
        blocks=pace.batch * part.held.sequence_blocks * part.tp,
        ttft_s=part.curves.steps.one_s + LOOK_AHEAD * min(1.0, pace.use) * tpot_s if met else float("inf"),
        tpot_s=tpot_s,
        sm_share=min(1.0, pace.decode_s / tpot_s),
    )


def _unfairness(parts: Sequence[_Part], models: Sequence[ModelEstimate]) -> float:
    if len(parts) < 2:
        return 0.0
    asked = [
        part.rate_rps * part.demand.output_tokens * model.tpot_s * part.held.sequence_blocks * part.tp
        for part, model in zip(parts, models, strict=True)
    ]
    held = [model.blocks for model in models]
    shares = [(have / sum(held)) / (want / sum(asked)) for have, want in zip(held, asked, strict=True)]
    return max(shares) - min(shares)
