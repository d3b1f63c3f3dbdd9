"""Sharing of a device by steps in flight: which of them are in line, and how fast the first of each line go."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from muxjax.cost import contention
from muxjax.cost.roofline import StepCost
from muxjax.engine.executor import Step


class Sharing(Protocol):
    """Lanes of a device: steps of one run in the order of their launch, and the first steps of all progress together."""

    def lane(self, step: Step) -> Hashable: ...

    def rates(self, costs: Sequence[StepCost]) -> Sequence[float]:
        """Progress of steps beside each other, as shares of their speeds alone."""
        ...


@dataclass(frozen=True, slots=True)
class Serial:
    """One lane."""

    def lane(self, step: Step) -> Hashable:
        return 0

    def rates(self, costs: Sequence[StepCost]) -> Sequence[float]:
        return [1.0] * len(costs)


@dataclass(frozen=True, slots=True)
class Lanes:
    """Lanes as the engine has them, where kernels contend for the whole device."""

    def lane(self, step: Step) -> Hashable:
        return step.lane

    def rates(self, costs: Sequence[StepCost]) -> Sequence[float]:
        return contention.rates(costs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spatial:
    """Lanes as MuxServe has them: a model has one, with a partition of the device.

    All progress at one rate: full speed while neither the arithmetic nor the memory they use in the sum exceeds `efficiency` of the
    device, less beyond that, but never worse than time slices.

    Measured on an H200, as the sum of the shares of their speeds alone: 1.2 for prefill beside decode under an 80/20 partition, 1.53
    for decode steps of three models, 1.0 for two processes in time slices. In the first case both use their resource fully and a
    sixth of the other's at most, which sums to 1.16 and asks for an efficiency of 0.7; in the second the memory uses are 0.69, 0.49 and
    0.35, which sum to 1.53 and ask for 0.78. SPATIAL takes the lower one.

    Args:
      efficiency: in (0, 1].
    """

    efficiency: float

    def lane(self, step: Step) -> Hashable:
        return step.model

    def rates(self, costs: Sequence[StepCost]) -> Sequence[float]:
        active = [cost for cost in costs if cost.total_s]
        if len(active) < 2:
            return [1.0] * len(costs)
        compute = sum(cost.compute_s / cost.total_s for cost in active)
        memory = sum((cost.memory_s + cost.attention_s) / cost.total_s for cost in active)
        return [max(1 / len(active), min(1.0, self.efficiency / max(compute, memory, 1e-9)))] * len(costs)


SERIAL, LANES, SPATIAL = Serial(), Lanes(), Spatial(efficiency=0.7)
