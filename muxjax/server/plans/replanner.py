"""Looks from time to time whether another placement would serve what comes better, and has it served if it is to."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from typing import NamedTuple

from muxjax.cluster.replan import Hysteresis
from muxjax.errors import ConfigError, MuxError
from muxjax.placement.problem import Placement, Problem, with_models
from muxjax.server.plans.came import with_what_came
from muxjax.server.plans.placing import Placing
from muxjax.server.plans.searching import search_process
from muxjax.workload.measured import Counts, counts_of

_log = logging.getLogger(__name__)


class Better(NamedTuple):
    """A placement found for a problem, and the share by which it serves more than the one there is."""

    placement: Placement
    gain: float


Search = Callable[[Problem, Placement], Better]
"""Finds a placement for a problem, and compares it with the one there is; in a process of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replanner:
    """Plans anew by what came since it looked last.

    Args:
      problem: what is served, and where; its rates and lengths are replaced by those measured.
      exposition: the server's metrics, as of `workload.measured.counts_of`.
      every_s: seconds between two looks.
      applies: what is found is served; else it is only logged.
    """

    problem: Problem
    placing: Placing
    exposition: Callable[[], bytes]
    search: Search
    every_s: float
    applies: bool

    async def run(self) -> None:
        """Looks for ever."""
        seen, seen_s, state = self._counts(), time.monotonic(), Hysteresis()
        while True:
            await asyncio.sleep(self.every_s)
            before, seen = seen, self._counts()
            seconds, seen_s = time.monotonic() - seen_s, time.monotonic()
            try:
                state = await self._look(before, seen, seconds, state)
            except (MuxError, BrokenExecutor) as error:
                _log.warning("no other placement was looked for: %s", error)

    def _counts(self) -> Mapping[str, Counts]:
        return counts_of(self.exposition().decode())

    async def _look(self, before: Mapping[str, Counts], after: Mapping[str, Counts], seconds: float, state: Hysteresis) -> Hysteresis:
        """One look; what it makes of those before it.

        Raises:
          ConfigError: models came that the problem does not have, or there is no placement.
        """
        now, known = self.placing.placement, {demand.name for demand in self.problem.demands}
        if strange := sorted({placed.model for unit in now.units for placed in unit.members} - known):
            raise ConfigError(f"{', '.join(strange)} would not be served any more, which the problem does not have", field="problem")
        problem = with_what_came(with_models(self.problem, self.placing.models), before, after, seconds)
        with search_process() as process:
            better = await asyncio.get_running_loop().run_in_executor(process, self.search, problem, now)
        state = state.after(better.gain)
        changes = self.placing.change_to(better.placement)
        if changes:
            _log.info("another placement would serve %.1f %% more: %s", 100 * better.gain, "; ".join(changes))
        else:
            _log.info("no other placement would serve more")
        if not (state.is_due and changes and self.applies):
            return state
        await self.placing.move_to(better.placement)
        return Hysteresis()
