"""The device of dictionaries, some of whose steps fail."""

from collections import deque
from collections.abc import Mapping

import numpy as np

from muxjax.engine.executor import NO_TOKEN, Done, Fault, Step
from tests.fake_device import FakeDevice

NAN, BROKEN, LOST = "nan", "broken", "lost"
"""The step samples no token; it cannot run; it takes the arena with it."""


class FaultyDevice(FakeDevice):
    """Keeps what an `Executor` promises of faults.

    Args:
      faults: what happens to the n-th step of all that finish, and to what its model does after it.
    """

    def __init__(self, *args, faults: Mapping[int, str], **options):
        super().__init__(*args, **options)
        self._faults, self._count = faults, 0
        self.broken: set[str] = set()
        self.faulted: set[str] = set()  # at any time

    def renew(self) -> None:
        """An empty arena; steps in flight are dropped."""
        self._queue: deque[Step] = deque()
        self._cells.clear()

    def _finish(self, step: Step) -> Done:
        kind = self._faults.get(self._count)
        self._count += 1
        if kind:
            self.faulted.add(step.model)
        if kind == LOST:
            self.broken.add(step.model)
            self.renew()
            return self._failed(step, Fault(what="lost", cache_lost=True))
        if kind == BROKEN or step.model in self.broken:
            self.broken.add(step.model)
            return self._failed(step, Fault(what="broken"))
        done = super()._finish(step)
        if kind == NAN:
            self.broken.add(step.model)
            done.tokens[-1] = NO_TOKEN
        return done

    def _failed(self, step: Step, fault: Fault) -> Done:
        return Done(step_id=step.id, tokens=np.zeros(0, np.int32), at_s=self._clock.now_s(), fault=fault)
