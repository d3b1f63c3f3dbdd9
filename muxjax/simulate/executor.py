"""Steps executed in virtual time by what they cost: the loop, unit and policies of serving, without a device."""

from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

import numpy as np

from muxjax.buckets import BatchShape, Buckets, ShapeChoice
from muxjax.cache.layout import CacheLayout
from muxjax.cost.chip import MeshSpec
from muxjax.cost.cost_model import CostModel
from muxjax.cost.roofline import StepCost, mean_context
from muxjax.cost.step import step_cost
from muxjax.engine.executor import Done, Step
from muxjax.model_spec import ModelSpec
from muxjax.simulate.sharing import Sharing

Costs = Callable[[Step], StepCost]


@dataclass(slots=True)
class SimulatedClock:
    """Virtual seconds; they only go forward."""

    at_s: float = 0.0

    def now_s(self) -> float:
        return self.at_s

    def advance_to(self, at_s: float) -> None:
        self.at_s = max(self.at_s, at_s)


HOST_S = 3.42e-3 / 8
"""Seconds of the host for a step: the median turn of docs/results/scheduler-turn under ADBS, which has eight."""
LAUNCHED = 0.4
"""Share of them before the step is launched; the rest when it is read back. View, plan and commit against record, as there."""


@dataclass(slots=True, eq=False)
class _Active:
    """A launched step; when it is its lane's first, how much of it is left, and how fast it goes."""

    step: Step
    cost: StepCost
    left_s: float
    rate: float = 1.0


class SimulatedExecutor:
    """An `Executor` whose steps take the seconds `costs` says; waiting for one moves the clock. It samples token 0 only.

    Args:
      host_s: that the host takes for a step, while the device goes on with what it has.
    """

    def __init__(self, costs: Costs, clock: SimulatedClock, sharing: Sharing, *, host_s: float = 0.0):
        self._costs, self._clock, self._sharing, self._host_s = costs, clock, sharing, host_s
        self._lanes: dict[Hashable, deque[_Active]] = {}
        self._finished: list[Done] = []
        self._first: list[_Active] = []  # of each lane; they progress until one begins or ends
        self._at_s = clock.now_s()  # how far they have progressed

    def launch(self, step: Step) -> None:
        self._clock.advance_to(self._clock.now_s() + LAUNCHED * self._host_s)
        self._progress(self._clock.now_s())
        lane, cost = self._lanes.setdefault(self._sharing.lane(step), deque()), self._costs(step)
        lane.append(_Active(step, cost, cost.total_s))
        if len(lane) == 1:
            self._begin(lane[0])

    def collect(self, *, wait: bool) -> list[Done]:
        self._progress(self._clock.now_s())
        if wait and not self._finished and self._first:
            self._clock.advance_to(self._end_s(self._next))
            self._progress(self._clock.now_s())
        finished, self._finished = self._finished, []
        self._clock.advance_to(self._clock.now_s() + (1 - LAUNCHED) * self._host_s * len(finished))
        return finished

    @property
    def _next(self) -> _Active:
        """The one of the first steps that ends first."""
        return min(self._first, key=self._end_s)

    def _end_s(self, active: _Active) -> float:
        """When it ends if nothing begins or ends before."""
        return self._at_s + active.left_s / active.rate

    def _progress(self, until_s: float) -> None:
        while self._first and self._end_s(ending := self._next) <= until_s:
            self._work(self._end_s(ending))
            self._retire(ending)
        self._work(until_s)

    def _work(self, until_s: float) -> None:
        for active in self._first:
            active.left_s -= (until_s - self._at_s) * active.rate
        self._at_s = until_s

    def _begin(self, active: _Active) -> None:
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
        for active, rate in zip(self._first, self._sharing.rates([active.cost for active in self._first]), strict=True):
            active.rate = rate


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
    """Costs of steps of those models, each on its mesh.

    Args:
      measured: as of `step_cost`.
      padded: steps cost what their padded shapes do, which attend to no more than the steps themselves; None for steps as they are.
    """

    def cost(step: Step) -> StepCost:
        (spec, mesh), decodes = models[step.model], step.decodes
        shape = padded[step.model].pad(step) if padded else None
        context_tokens = int(np.add.reduce(step.starts[:decodes])) + decodes
        starts, counts = step.starts[decodes:], step.counts[decodes:]
        if not len(counts):
            batch = shape.decode_rows if shape else decodes
            return step_cost(spec, mesh, measured, batch=batch, context_tokens=context_tokens)
        own = int(counts.sum())
        tokens = shape.tokens - decodes if shape else own
        context = mean_context(starts, counts) * (own / tokens)
        return step_cost(spec, mesh, measured, tokens=tokens, context=context, batch=decodes, context_tokens=context_tokens)

    return cost
