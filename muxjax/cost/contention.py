"""Contention: how fast steps go that run beside each other on one device, each on a stream of its own."""

from collections.abc import Sequence

from muxjax.cost.roofline import StepCost

HIDDEN = 0.5
"""Share of its overhead that a step which waits for memory loses no time with beside others. The one constant that comes from runs of
several models: the times between tokens of "decodes" under `mux`, docs/results/colocation."""


def rates(costs: Sequence[StepCost]) -> list[float]:
    """Speeds of steps beside each other, as shares of their speeds alone.

    The device takes kernels from its streams in turn, and one that runs has all multiprocessors until its last blocks. All layers have
    about as many kernels, so that steps go forward layer by layer in turn: the longer one's layers, the more of the device it has, and a
    decode beside a prefill, whose layers take ten times as long, has a tenth. Launches and small kernels of a decode leave the device to
    others; a step that waits for arithmetic leaves nothing.
    """
    if len(costs) < 2:
        return [1.0] * len(costs)
    round_s = sum(taken_s(cost) / cost.layers for cost in costs)
    return [min(1.0, cost.total_s / cost.layers / round_s) for cost in costs]


def taken_s(cost: StepCost) -> float:
    """Seconds that the step takes of the device, beside others."""
    return cost.total_s - (HIDDEN * cost.overhead_s if cost.waits_for_memory else 0.0)
