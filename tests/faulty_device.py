"""The device of dictionaries, some of whose steps fail."""

from collections.abc import Mapping

import numpy as np

from muxjax.engine.executor import NO_TOKEN, Done, Fault, Step
from tests.fake_device import FakeDevice

NAN, BROKEN, LOST = "nan", "broken", "lost"
"""The step samples no token; it cannot run; it takes with it what its lane had in the arena and in flight."""


class FaultyDevice(FakeDevice):
    """Keeps what an `Executor` promises of faults.

    Args:
      faults: what happens to the n-th step of all that finish, and to what its model does after it.
      lane_of: lanes of the models; all are in one by default.
    """

    def __init__(self, *args, faults: Mapping[int, str], lane_of: Mapping[str, int] | None = None, **options):
        super().__init__(*args, **options)
        self._lane_of = lane_of or dict.fromkeys(self._layouts, 0)
        self._faults, self._count = faults, 0
        self.broken: set[str] = set()
        self.faulted: set[str] = set()  # at any time

    def renew(self) -> None:
        """An empty arena; steps in flight are dropped."""
        self._lanes.clear()
        self._cells.clear()

    def _lose(self, lane: int) -> frozenset[str]:
        """The models of a lane, which have lost everything."""
        models = frozenset(model for model in self._layouts if self._lane_of[model] == lane)
        self._lanes.pop(lane, None)
        self._cells = {cell: mark for cell, mark in self._cells.items() if mark[0] not in models}
        return models

    def _run(self, step: Step) -> None:
        if step.model not in self.broken:
            super()._run(step)

    def _finish(self, step: Step) -> Done:
        kind = self._faults.get(self._count)
        self._count += 1
        if kind:
            self.faulted.add(step.model)
        if kind == LOST:
            self.broken.add(step.model)
            return self._failed(step, Fault(what="lost", lost_models=self._lose(step.lane)))
        if kind == BROKEN or step.model in self.broken:
            self.broken.add(step.model)
            return self._failed(step, Fault(what="broken"))
        done = super()._finish(step)
        if kind == NAN:
            self.broken.add(step.model)
            done.tokens[len(step.slots) - 1] = NO_TOKEN
        return done

    def _failed(self, step: Step, fault: Fault) -> Done:
        return Done(step_id=step.id, tokens=np.zeros(0, np.int32), at_s=self._clock.now_s(), fault=fault)
