"""Steps executed in virtual time by what they cost: the loop, unit and policies of serving, without a device."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from muxjax.buckets import BatchShape, Buckets, ShapeChoice
from muxjax.cache.layout import CacheLayout
from muxjax.cost.chip import MeshSpec
from muxjax.cost.cost_model import CostModel
from muxjax.cost.roofline import Roofline, StepCost, decode, mean_context, mixed, prefill
from muxjax.engine.executor import Done, Step
from muxjax.types import ModelSpec

Costs = Callable[[Step], StepCost]


@dataclass(slots=True)
class SimulatedClock:
    """Virtual seconds; they only go forward."""

    at_s: float = 0.0

    def now_s(self) -> float:
        return self.at_s

    def advance_to(self, at_s: float) -> None:
        self.at_s = max(self.at_s, at_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """Sharing of a device by steps in flight.

    Serially, one lane runs them in the order of their launch. Spatially, every model has a lane (its own steps stay in order, as an
    executor promises) and the lanes' first steps progress together, all at one rate: full speed while neither the arithmetic nor
    the memory they use in the sum exceeds `efficiency` of the device, less beyond that, but never worse than time slices.

    Measured on an H200, as the sum of the shares of their speeds alone: 1.2 for prefill beside decode under an 80/20 partition, 1.53
    for decode steps of three models, 1.0 for two processes in time slices. In the first case both use their resource fully and a
    sixth of the other's at most, which sums to 1.16 and asks for an efficiency of 0.7; in the second the memory uses are 0.69, 0.49 and
    0.35, which sum to 1.53 and ask for 0.78. SPATIAL takes the lower one.

    With a `gain`, lanes are those of the steps, and steps beside each other are done so many times as fast as one after another, each
    in an equal share of it.

    Args:
      efficiency: in (0, 1].
    """

    spatial: bool
    efficiency: float = 1.0
    gain: float | None = None

    def lane(self, step: Step) -> str:
        if self.gain is not None:
            return str(step.lane)
        return step.model if self.spatial else ""

    def rate(self, costs: Iterable[StepCost]) -> float:
        """Progress of every active step, as a share of its speed alone."""
        active, compute, memory = 0, 0.0, 0.0
        for cost in costs:
            if total_s := cost.total_s:
                active += 1
                compute += cost.compute_s / total_s
                memory += cost.memory_s / total_s
        if active < 2:
            return 1.0
        if self.gain is not None:
            return min(1.0, self.gain / active)
        return max(1 / active, min(1.0, self.efficiency / max(compute, memory, 1e-9)))


SERIAL = Sharing(spatial=False)
SPATIAL = Sharing(spatial=True, efficiency=0.7)
LANES = Sharing(spatial=True, gain=1.15)
"""Lanes as the engine has them, without shares of multiprocessors. Measured on an H200: three decodes, each in a client of its own, 1.15 to
1.18 of turns, two 1.12 to 1.19. The shares are not equal there: a prefill beside a decode takes nearly all of the device while it lasts."""


HOST_S = 3.42e-3 / 8
"""Seconds of the host for a step: the median turn of docs/results/scheduler-turn under ADBS, which has eight."""
LAUNCHED = 0.4
"""Share of them before the step is launched; the rest when it is read back. View, plan and commit against record, as there."""


@dataclass(slots=True, eq=False)
class _Active:
    """A launched step, and at how much work of its lane's first steps it ends; known when it is one."""

    step: Step
    cost: StepCost
    ends_s: float = math.inf


class SimulatedExecutor:
    """An `Executor` whose steps take the seconds `costs` says; waiting for one moves the clock. It samples token 0 only.

    Args:
      host_s: that the host takes for a step, while the device goes on with what it has.
    """

    def __init__(self, costs: Costs, clock: SimulatedClock, sharing: Sharing, *, host_s: float = 0.0):
        self._costs, self._clock, self._sharing, self._host_s = costs, clock, sharing, host_s
        self._lanes: dict[str, deque[_Active]] = {}
        self._finished: list[Done] = []
        self._first: list[_Active] = []  # of each lane; they progress, all at one rate, until one begins or ends
        self._next: _Active | None = None  # of them to end
        self._rate = 1.0
        self._work_s = 0.0  # that a first step would have had of them if it had been one from the start
        self._at_s = clock.now_s()  # how far the lanes have progressed

    def launch(self, step: Step) -> None:
        self._clock.advance_to(self._clock.now_s() + LAUNCHED * self._host_s)
        self._progress(self._clock.now_s())
        lane = self._lanes.setdefault(self._sharing.lane(step), deque())
        lane.append(_Active(step, self._costs(step)))
        if len(lane) == 1:
            self._begin(lane[0])

    def collect(self, *, wait: bool) -> list[Done]:
        self._progress(self._clock.now_s())
        if wait and not self._finished and self._next:
            self._clock.advance_to(self._end_s(self._next))
            self._progress(self._clock.now_s())
        finished, self._finished = self._finished, []
        self._clock.advance_to(self._clock.now_s() + (1 - LAUNCHED) * self._host_s * len(finished))
        return finished

    def _end_s(self, active: _Active) -> float:
        """When it ends if nothing begins or ends before."""
        return self._at_s + (active.ends_s - self._work_s) / self._rate

    def _progress(self, until_s: float) -> None:
        while self._next and (end_s := self._end_s(self._next)) <= until_s:
            self._work_s, self._at_s = self._next.ends_s, end_s
            self._retire(self._next)
        self._work_s += (until_s - self._at_s) * self._rate
        self._at_s = until_s

    def _begin(self, active: _Active) -> None:
        active.ends_s = self._work_s + active.cost.total_s
        self._first.append(active)
        self._share()

    def _retire(self, active: _Active) -> None:
        lane = self._lanes[self._sharing.lane(active.step)]
        lane.popleft()
        self._first.remove(active)
        tokens = np.zeros(len(active.step.slots), np.int32)
        self._finished.append(Done(step_id=active.step.id, tokens=tokens, at_s=self._at_s))
        if lane:
            self._begin(lane[0])
        else:
            self._share()

    def _share(self) -> None:
        self._rate = self._sharing.rate([active.cost for active in self._first])
        self._next = min(self._first, key=_ends_s, default=None)


_ends_s = attrgetter("ends_s")


class PaddedModel:
    """A model whose steps are padded as a device pads them; counts the tokens that are computed, and how many of them are padding."""

    def __init__(self, buckets: Buckets, layout: CacheLayout):
        self._choice = ShapeChoice(buckets, layout, buckets.shapes())
        self.computed = self.padding = 0

    def pad(self, step: Step) -> BatchShape:
        """The shape that the step runs as."""
        shape = self._choice.shape(step.starts, step.counts, step.decodes, step.sm_share)
        self.computed += shape.tokens
        self.padding += shape.tokens - len(step.tokens)
        return shape


def step_costs(
    models: Mapping[str, tuple[ModelSpec, MeshSpec]], measured: CostModel | None = None, padded: Mapping[str, PaddedModel] | None = None
) -> Costs:
    """Costs of steps of those models, each on its mesh, by the roofline.

    Args:
      measured: what steps take all in all, in place of the roofline's sums. The shares of arithmetic and memory stay the roofline's, and
        a step with chunks is as much dearer as its chunks alone are.
      padded: steps cost what their padded shapes do, which attend to no more than the steps themselves; None for steps as they are.
    """

    measured = None if isinstance(measured, Roofline) else measured

    def cost(step: Step) -> StepCost:
        (spec, mesh), decodes = models[step.model], step.decodes
        context_tokens = int(np.add.reduce(step.starts[:decodes])) + decodes
        starts, counts = step.starts[decodes:], step.counts[decodes:]
        shape = padded[step.model].pad(step) if padded else None
        batch = shape.decode_rows if shape else decodes
        if not len(counts):
            alone = decode(spec, mesh, batch, context_tokens)
            return alone.times(measured.decode_s(spec, mesh, batch, context_tokens) / alone.total_s) if measured else alone
        own = int(counts.sum())
        tokens = shape.prefill_tokens if shape else own
        context = mean_context(starts, counts) * (own / tokens)
        both = mixed(spec, mesh, tokens, context, batch, context_tokens)
        if not measured:
            return both
        return both.times(measured.prefill_s(spec, mesh, tokens, context) / prefill(spec, mesh, tokens, context).total_s)

    return cost
