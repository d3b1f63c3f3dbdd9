"""The fewest devices that serve everything."""

import math
from dataclasses import replace

from muxjax.cost.roofline import weight_bytes
from muxjax.placement.greedy import Effort, GoOn, PlacementResult, placed
from muxjax.placement.headroom import SearchSpaceOf, place_with_headroom, serving_all
from muxjax.placement.problem import Problem

LIGHT = Effort(cuts=4, breadth=0, estimates=5_000, whole=True)
"""Effort of a search on fewer devices, which mostly ends where they suffice."""


def fewest_devices(problem: Problem, search_space: SearchSpaceOf, go_on: GoOn = lambda units, worth: True) -> PlacementResult:
    """A placement that serves everything with the fewest devices found; where that cannot be, the best one.

    Numbers of devices are halved between what holds the weights and the whole cluster, as if what fewer devices serve more do, too.

    Raises:
      ConfigError: as of `place`.
    """
    best = place_with_headroom(problem, search_space, go_on=go_on)
    if not search_space(problem)[0].serves_all(best.worth):
        return best
    few, enough, least = _hold_weights(problem) - 1, problem.cluster.devices, None
    while enough - few > 1 and go_on(0, 1.0):
        devices = (few + enough) // 2
        found = serving_all(_on(problem, devices), search_space, LIGHT, go_on)
        if found is None:
            few = devices
        else:
            enough, least = devices, found
    return placed(least, search_space(_on(problem, enough))[0]) if least else best


def _on(problem: Problem, devices: int) -> Problem:
    """The problem with so many devices."""
    return replace(problem, cluster=replace(problem.cluster, usable=devices))


def _hold_weights(problem: Problem) -> int:
    """Devices that hold all weights once."""
    weights = sum(weight_bytes(demand.spec, demand.on(problem.cluster.chip)) for demand in problem.demands)
    return min(problem.cluster.devices, math.ceil(weights / problem.device_bytes))
