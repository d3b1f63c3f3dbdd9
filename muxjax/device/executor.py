"""The executor that runs steps on the devices of a unit: each on its lane, and lanes beside each other."""

import threading
import time
from collections.abc import Callable, Mapping

import jax
import numpy as np

from muxjax.buckets import BatchShape
from muxjax.device import batch
from muxjax.device.lanes.arena import ArenaMemory
from muxjax.device.lanes.lane import Lane
from muxjax.device.model import DeviceModel
from muxjax.device.post_step import GREEDY
from muxjax.engine.executor import Done, Step


class DeviceExecutor:
    """Runs the steps of several models over one arena. See `engine.executor.Executor`.

    Args:
      lanes: so many; each model names its own.
      beside: steps may end in another order than that of their launch; by default, where there are several lanes.
    """

    def __init__(
        self,
        models: Mapping[str, DeviceModel],
        arena: ArenaMemory,
        *,
        lanes: int = 1,
        beside: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._arena, self._clock, self._sleep = arena, clock, sleep
        self._landed = threading.Event()  # a step of some lane, since it was looked for, or somebody asks for the loop
        self._is_woken = False
        self._beside = lanes > 1 if beside is None else beside
        on_landing = self._landed.set if self._beside else None
        self.lanes = tuple(Lane(number, arena, clock, on_landing) for number in range(lanes))
        for name, model in models.items():
            self.add(name, model)

    def launch(self, step: Step) -> None:
        """Starts a step, or has `collect` start it later, or tell why it could not be."""
        self.lanes[step.lane].launch(step)

    def collect(self, *, wait: bool) -> list[Done]:
        """Steps that have ended; with `wait`, one at least if any is in flight, unless it is woken."""
        done = self._collect()
        while wait and not done and not self._is_woken and self._wait():
            done = self._collect()
        self._is_woken = False
        return done

    def wake(self) -> None:
        """From any thread: has `collect` wait no longer, for there may be something to launch beside those in flight."""
        if self._beside:
            self._is_woken = True
            self._landed.set()

    @property
    def models(self) -> Mapping[str, DeviceModel]:
        """Every model, also those that sleep."""
        return {name: model for lane in self.lanes for name, model in lane.models.items()}

    @property
    def arena_rows(self) -> int:
        """Head blocks of all devices together."""
        return self._arena.rows

    def add(self, name: str, model: DeviceModel) -> None:
        """A model whose steps may be launched from now on."""
        lane = self.lanes[model.lane]
        lane.models = {**lane.models, name: model}

    def remove(self, name: str) -> None:
        """Frees what the devices hold of a model, none of whose steps is in flight; there may be none of that name."""
        for lane in self.lanes:
            if name in lane.models:
                model = lane.models[name]
                lane.models = {other: model for other, model in lane.models.items() if other != name}
                model.delete()

    def renew(self, rows: int) -> None:
        """Puts an empty arena of so many rows, on all devices together, in place of the one there is; steps in flight are dropped.

        Raises:
          JaxRuntimeError, MemoryError: there is not so much memory in one piece; there is no arena until another call succeeds.
        """
        for lane in self.lanes:
            lane.drop()
        self._arena.resize(rows)
        for lane in self.lanes:
            lane.renew()

    def run(self, name: str, packed: np.ndarray, shape: BatchShape) -> jax.Array:
        """Launches a packed step of greedy rows, of a compiled shape; the tokens [B] it will have sampled."""
        model = self.models[name]
        lane = self.lanes[model.lane]
        return lane.submit(lane.run, model, packed, shape, GREEDY).result().tokens_B

    def warm_up(self, on_shape: Callable[[], object] = lambda: None) -> None:
        """Runs every program of every model once, from this thread, with nothing to do: the device is ready to the last graph.

        Args:
          on_shape: called after each shape.
        """
        for name, model in self.models.items():
            model.warm_up_updates()
            for shape in model.steps:
                self.warm(name, shape)()
                on_shape()

    def warm(self, name: str, shape: BatchShape) -> Callable[[], object]:
        """Launches the programs of a shape once, with nothing to do; what waits for their end."""
        model = self.models[name]
        lane, controls = self.lanes[model.lane], model.post_step.warm_up_controls(shape)
        launched = lane.submit(lane.run, model, batch.empty(shape), shape, controls)
        return lambda: jax.block_until_ready(launched.result())

    def _collect(self) -> list[Done]:
        self._landed.clear()  # first: what lands while others are looked at is looked for again
        done: list[Done] = []
        for lane in self.lanes:
            lane.advance()
            done += lane.landed()
        return done

    def _wait(self) -> bool:
        """Waits until a step may have ended, or is due to be launched again; False if there is none."""
        busy = [lane for lane in self.lanes if lane.is_busy]
        due_s = min((due_s for lane in self.lanes if (due_s := lane.due_s) is not None), default=None)
        if busy and self._beside:
            self._landed.wait(None if due_s is None else max(0.0, due_s - self._clock()))
        elif busy and busy[0].is_flying:  # nothing else can end, or begin, before it
            busy[0].wait()
        elif due_s is not None:
            self._sleep(max(0.0, due_s - self._clock()))
        return bool(busy)
