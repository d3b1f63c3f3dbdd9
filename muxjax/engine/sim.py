"""Steps executed in virtual time by what they cost: the loop, unit and policies of serving, without a device."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from muxjax.engine.executor import Done, Step
from muxjax.placement.cost import MeshSpec, StepCost, decode, mean_context, mixed
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
    """How steps in flight share a device.

    Serially, one lane runs them in the order of their launch. Spatially, every model has a lane (its own steps stay in order, as an
    executor promises) and the lanes' first steps progress together, all at one rate: full speed while neither the arithmetic nor
    the memory they use in the sum exceeds `efficiency` of the device, less beyond that, but never worse than time slices.

    Measured on an H200, as the sum of the shares of their speeds alone: 1.2 for prefill beside decode under an 80/20 partition, 1.53
    for decode steps of three models, 1.0 for two processes in time slices. In the first case both use their resource fully and a
    sixth of the other's at most, which sums to 1.16 and asks for an efficiency of 0.7; in the second the memory uses are 0.69, 0.49 and
    0.35, which sum to 1.53 and ask for 0.78. SPATIAL takes the lower one.

    Args:
      efficiency: in (0, 1].
    """

    spatial: bool
    efficiency: float = 1.0

    def lane(self, step: Step) -> str:
        return step.model if self.spatial else ""

    def rate(self, costs: Iterable[StepCost]) -> float:
        """Progress of every active step, as a share of its speed alone."""
        active = [cost for cost in costs if cost.total_s > 0]
        if len(active) < 2:
            return 1.0
        compute = sum(cost.compute_s / cost.total_s for cost in active)
        memory = sum(cost.memory_s / cost.total_s for cost in active)
        return max(1 / len(active), min(1.0, self.efficiency / max(compute, memory, 1e-9)))


SERIAL = Sharing(spatial=False)
SPATIAL = Sharing(spatial=True, efficiency=0.7)


@dataclass(slots=True)
class _Active:
    """A launched step and the seconds it would still need alone."""

    step: Step
    cost: StepCost
    left_s: float


class SimulatedExecutor:
    """An `Executor` whose steps take the seconds `costs` says; waiting for one moves the clock. It samples token 0 only."""

    def __init__(self, costs: Costs, clock: SimulatedClock, sharing: Sharing):
        self._costs, self._clock, self._sharing = costs, clock, sharing
        self._lanes: dict[str, deque[_Active]] = {}
        self._finished: list[Done] = []
        self._first: list[_Active] = []
        self._rate = 1.0
        self._at_s = clock.now_s()  # how far the lanes have progressed

    def launch(self, step: Step) -> None:
        self._progress(self._clock.now_s())
        cost = self._costs(step)
        self._lanes.setdefault(self._sharing.lane(step), deque()).append(_Active(step, cost, cost.total_s))
        self._choose()

    def collect(self, *, wait: bool) -> list[Done]:
        self._progress(self._clock.now_s())
        if wait and not self._finished and self._first:
            self._clock.advance_to(self._at_s + self._next_s)
            self._progress(self._clock.now_s())
        finished, self._finished = self._finished, []
        return finished

    def _choose(self) -> None:
        """The first step of each lane progresses, all at one rate, until a step is launched or finishes."""
        self._first = [lane[0] for lane in self._lanes.values() if lane]
        self._rate = self._sharing.rate([active.cost for active in self._first])

    @property
    def _next_s(self) -> float:
        """Until the next step finishes."""
        return min(active.left_s for active in self._first) / self._rate

    def _progress(self, until_s: float) -> None:
        while self._first and (end_s := self._at_s + self._next_s) <= until_s:
            self._work(self._next_s)
            self._at_s = end_s
            self._retire(min(self._first, key=lambda active: active.left_s))
        if self._first:
            self._work(until_s - self._at_s)
        self._at_s = until_s

    def _work(self, elapsed_s: float) -> None:
        for active in self._first:
            active.left_s = max(0.0, active.left_s - elapsed_s * self._rate)

    def _retire(self, active: _Active) -> None:
        self._lanes[self._sharing.lane(active.step)].popleft()
        tokens = np.zeros(len(active.step.slots), np.int32)
        self._finished.append(Done(step_id=active.step.id, tokens=tokens, at_s=self._at_s))
        self._choose()


def roofline(models: Mapping[str, tuple[ModelSpec, MeshSpec]]) -> Costs:
    """Costs of steps of those models, each on its mesh."""

    def cost(step: Step) -> StepCost:
        (spec, mesh), batch = models[step.model], step.decodes
        context_tokens = int(step.starts[:batch].sum()) + batch
        starts, counts = step.starts[batch:], step.counts[batch:]
        if not len(counts):
            return decode(spec, mesh, batch, context_tokens)
        return mixed(spec, mesh, int(counts.sum()), mean_context(starts, counts), batch, context_tokens)

    return cost
