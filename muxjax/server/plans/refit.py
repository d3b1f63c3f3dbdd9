"""Fits what is served to the devices that are left when some are lost, and to all when they are back."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, replace

from muxjax.cluster.on_ray.nodes import Node
from muxjax.cluster.renumber import Taken, renumbered
from muxjax.errors import MuxError
from muxjax.placement.problem import Cluster, Placement, Pool, Problem, with_models
from muxjax.server.plans.placing import Placing
from muxjax.server.plans.searching import search_process

_log = logging.getLogger(__name__)


def cluster_of(wanted: Cluster, there: Iterable[Node]) -> Cluster | None:
    """What there is of a cluster that is wanted; None if there is nothing.

    Args:
      there: the nodes, each of which counts for the first pool that it may be of.
    """
    left, pools = list(there), []
    for pool in wanted.pools:
        own = [node for node in left if node.suits(pool.chip.name)]
        left = [node for node in left if node not in own]
        pools.append(_pool_of(pool, [node.devices for node in own]))
    return Cluster(tuple(pools)) if any(pool.devices for pool in pools) else None


def _pool_of(wanted: Pool, devices: Sequence[int]) -> Pool:
    """What there is of a pool, in nodes with so many devices."""
    width = min(max(devices, default=0), wanted.devices_per_node)
    usable = min(sum(min(count, width) for count in devices), wanted.devices)
    if not usable:
        return replace(wanted, usable=0)
    if usable == wanted.devices and width == wanted.devices_per_node:
        return wanted
    return replace(wanted, nodes=sum(count > 0 for count in devices), devices_per_node=width, usable=usable)


def is_due(fitted: Cluster, now: Cluster, *, away: bool) -> bool:
    """Another placement is wanted: some unit has no devices since the last one, or there are more devices than that was for.

    Args:
      fitted: what the placement that is served was made for.
    """
    return now != fitted and (away or now.devices > fitted.devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refit:
    """Looks after the devices of a cluster that come and go.

    Args:
      problem: what is served, and on which devices when all are there.
      nodes: that there are.
      search: the placement of a problem; in a process of its own.
      every_s: seconds between two looks; what two in a row have seen counts.
    """

    problem: Problem
    placing: Placing
    nodes: Callable[[], Awaitable[Iterable[Node]]]
    search: Callable[[Problem], Placement]
    every_s: float = 5.0

    async def run(self) -> None:
        """Looks for ever."""
        fitted, seen = self.problem.cluster, None
        while True:
            await asyncio.sleep(self.every_s)
            before, seen = seen, cluster_of(self.problem.cluster, await self.nodes())
            if seen is None or seen != before or not is_due(fitted, seen, away=bool(self._units(away=True))):
                continue
            fitted = seen  # whatever comes of it: it would come of it again
            try:
                await self._fit(seen)
            except (MuxError, BrokenExecutor) as error:
                _log.error("no placement could be served on the %d devices there are: %s", seen.devices, error)

    async def _fit(self, cluster: Cluster) -> None:
        """Raises ConfigError, RequestError: nothing fits, or it cannot be served."""
        _log.warning("there are %d devices: the models are placed anew", cluster.devices)
        with search_process() as process:
            problem = with_models(replace(self.problem, cluster=cluster), self.placing.models)
            found = await asyncio.get_running_loop().run_in_executor(process, self.search, problem)
        await self.placing.move_to(renumbered(found, self._units(away=False), self._units(away=True)))

    def _units(self, *, away: bool) -> list[Taken]:
        return [Taken(place.devices, place.models, place.chip) for place in self.placing.places() if place.state.is_away is away]
