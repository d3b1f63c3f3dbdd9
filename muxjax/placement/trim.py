"""The cheapest devices that serve everything."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

from muxjax.cost.roofline import weight_bytes
from muxjax.placement.greedy import Effort, GoOn, PlacementResult, Searched, memory_bytes, placed
from muxjax.placement.headroom import SearchSpaceOf, place_with_headroom, serving_all
from muxjax.placement.problem import Cluster, Problem

LIGHT = Effort(cuts=4, breadth=0, estimates=5_000, whole=True)
"""Effort of a search on fewer devices, which mostly ends where they suffice."""
Usable = tuple[int, ...]
"""Devices of each pool that may be used."""


def fewest_devices(problem: Problem, search_space: SearchSpaceOf, go_on: GoOn = lambda units, worth: True) -> PlacementResult:
    """As `least_cost`, where every device has the same price."""
    pools = tuple(replace(pool, price=1.0) for pool in problem.cluster.pools)
    return least_cost(replace(problem, cluster=Cluster(pools)), search_space, go_on)


def least_cost(problem: Problem, search_space: SearchSpaceOf, go_on: GoOn = lambda units, worth: True) -> PlacementResult:
    """A placement that serves everything on the cheapest devices found; where that cannot be, the best one.

    Raises:
      ConfigError: as of `place`.
    """
    best = place_with_headroom(problem, search_space, go_on=go_on)
    if not search_space(problem)[0].serves_all(best.worth):
        return best
    trim = _Trim(problem, search_space, go_on)
    usable, least = trim.cheapest()
    return placed(least, search_space(_on(problem, usable))[0]) if least else best


class _Trim:
    """A search over how many devices of each pool are used, as if what fewer devices serve more do, too."""

    def __init__(self, problem: Problem, search_space: SearchSpaceOf, go_on: GoOn):
        self._problem, self._search_space, self._go_on = problem, search_space, go_on
        self._pools = problem.cluster.pools
        self._all = tuple(pool.devices for pool in self._pools)
        self._weights = sum(weight_bytes(demand.spec, problem.mesh(demand)) for demand in problem.demands)
        self._known: dict[Usable, Searched | None] = {}

    def cheapest(self) -> tuple[Usable, Searched | None]:
        """The usable devices, and a state on them; None where that is all of them.

        Each pool is the first to be trimmed once, the dearest of the others next; then more of one pool are had for fewer of another
        while that is cheaper.
        """
        dearest = sorted(range(len(self._pools)), key=lambda at: -self._pools[at].price)
        orders = ([first, *(at for at in dearest if at != first)] for first in dearest)
        best = min((self._trimmed(self._all, order) for order in orders), key=self._price)
        while self._may_go_on():
            cheaper = min(self._exchanged(best), key=self._price, default=best)
            if self._price(cheaper) >= self._price(best):
                break
            best = cheaper
        return best, self._known.get(best)

    def _trimmed(self, usable: Usable, order: list[int]) -> Usable:
        """With as few devices of each pool as suffice beside the others, one pool after the other."""
        for at in order:
            usable = _with(usable, at, self._fewest(usable, at))
        return usable

    def _fewest(self, usable: Usable, at: int) -> int:
        """Devices of that pool that suffice beside those of the others, by halving."""
        few, enough = -1, usable[at]
        while enough - few > 1 and self._may_go_on():
            devices = (few + enough) // 2
            few, enough = (few, devices) if self._suffice(_with(usable, at, devices)) else (devices, enough)
        return enough

    def _exchanged(self, usable: Usable) -> Iterator[Usable]:
        """With more devices of one pool, and as few of another as suffice then."""
        for more, fewer in itertools.permutations(range(len(usable)), 2):
            step = 1
            while usable[fewer] and usable[more] + step <= self._all[more]:
                yield self._trimmed(_with(usable, more, usable[more] + step), [fewer])
                step *= 2

    def _suffice(self, usable: Usable) -> bool:
        """Whether a state that serves everything is found on so many devices."""
        if usable not in self._known:
            self._known[usable] = self._serving(usable)
        return self._known[usable] is not None

    def _serving(self, usable: Usable) -> Searched | None:
        if not any(usable) or memory_bytes(fewer := _on(self._problem, usable)) < self._weights:
            return None
        return serving_all(fewer, self._search_space, LIGHT, self._go_on)

    def _price(self, usable: Usable) -> float:
        return math.fsum(pool.price * devices for pool, devices in zip(self._pools, usable, strict=True))

    def _may_go_on(self) -> bool:
        return self._go_on(0, 1.0)


def _with(usable: Usable, at: int, devices: int) -> Usable:
    return (*usable[:at], devices, *usable[at + 1 :])


def _on(problem: Problem, usable: Usable) -> Problem:
    """The problem with so many devices of each pool."""
    pools = zip(problem.cluster.pools, usable, strict=True)
    return replace(problem, cluster=Cluster(tuple(replace(pool, usable=devices) for pool, devices in pools)))
