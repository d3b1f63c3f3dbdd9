"""A lane: the steps of some models, one after the other, and what they write to."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import NamedTuple, TypeVar

import jax
import numpy as np

from muxjax.buckets import BatchShape
from muxjax.device import batch
from muxjax.device.lanes.arena import ArenaMemory
from muxjax.device.lanes.at_once import AtOnce
from muxjax.device.lanes.launch_queue import LaunchQueue
from muxjax.device.lanes.pools import Pools
from muxjax.device.lanes.watch import Watch
from muxjax.device.model import DeviceModel
from muxjax.device.post_step import PackedControls, StepResult, logprobs_of
from muxjax.engine.executor import Done, Fault, Step

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Lane:
    """Runs the steps of its models in the order of their launch, but for models that have no device in common, whose steps run beside
    each other.

    A launch that fails for a reason that passes, and has changed nothing, is tried again, before later ones of its model.

    XLA takes the host up to 1.6 ms to launch a step of a small model, and lets other threads go on meanwhile (docs/results/launches): with
    `on_landing`, launches are made in a thread of the lane's. All that a launch changes (pools, queues, and what models replace) belongs to
    that thread, and what it has launched comes to the loop's in a queue.

    Args:
      number: of the lane, by which the arena knows its view.
      on_landing: called from a thread of the lane's whenever a step of it has ended, or is to wait for its launch; None where no other
        lane is beside it.
    """

    def __init__(self, number: int, arena: ArenaMemory, clock: Callable[[], float], on_landing: Callable[[], object] | None = None):
        self.models: Mapping[str, DeviceModel] = {}  # replaced, never changed
        self.pools = Pools.of(arena.view(number))
        self._number, self._arena, self._clock = number, arena, clock
        self._on_landing = on_landing
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"muxjax-launches-{number}") if on_landing else AtOnce()
        self._queues: dict[str, LaunchQueue] = {}  # of models, not empty; of the launching thread, as are watches
        self._watches: dict[frozenset[jax.Device], Watch] = {}  # by devices, on which steps end in their order
        self._due_s: Mapping[str, float] = {}  # of models whose launch has failed; replaced, never changed
        self._asked_s: dict[str, float] = {}  # of those, which due times have come and been told; of the loop's thread
        self._launched: SimpleQueue[_Flight] = SimpleQueue()
        self._flights: deque[_Flight] = deque()  # of the loop's thread
        self._not_landed = 0
        self._defect: BaseException | None = None

    def launch(self, step: Step) -> None:
        """Has a step started, or started later; `landed` tells why it could not be."""
        self._not_landed += 1
        self.submit(self._take, step).add_done_callback(self._heed)

    def advance(self) -> None:
        """Has launched what is due to be tried again: asks once for each try, which may wait for long launches of others."""
        for model, due_s in self._unasked_s.items():
            if self._clock() >= due_s:
                self._asked_s[model] = due_s
                self.submit(self._advance, model).add_done_callback(self._heed)

    def submit(self, action: Callable[..., T], *arguments: object) -> "Future[T]":
        """Does something where launches are made, behind those before."""
        return self._thread.submit(action, *arguments)

    @property
    def is_busy(self) -> bool:
        """Steps of it have not landed, be they launched or not."""
        return bool(self._not_landed)

    @property
    def is_flying(self) -> bool:
        """Steps of it are in flight, or have ended."""
        self._take_over()
        return bool(self._flights)

    @property
    def due_s(self) -> float | None:
        """When `advance` has something to do; None if nothing waits for it."""
        return min(self._unasked_s.values(), default=None)

    @property
    def _unasked_s(self) -> Mapping[str, float]:
        """When steps are due that could not be launched, but for those whose try is on its way; one that fails has a later due time."""
        return {model: due_s for model, due_s in self._due_s.items() if self._asked_s.get(model) != due_s}

    def wait(self) -> None:
        """Waits for the first step in flight."""
        self._flights[0].wait()

    def landed(self) -> list[Done]:
        """Steps that have ended, those of a device in their order. All behind one that has taken with it what it writes to are dropped."""
        if self._defect:
            raise self._defect
        self._take_over()
        done = []
        while (place := self._first_ended()) is not None:
            step, ended = self._flights[place].step, self._flights[place].ended()
            del self._flights[place]
            self._not_landed -= 1
            if isinstance(ended, _Failure):
                ended = self._failed(step, ended)
            done.append(ended)
        return done

    def drop(self) -> None:
        """Drops the steps that have not landed, and the view of the arena when those in flight have ended."""
        self.submit(self._forget).result()
        self._take_over()
        self._flights.clear()
        self._not_landed = 0

    def renew(self) -> None:
        """Another view of the arena in place of one that was dropped.

        Raises:
          JaxRuntimeError, MemoryError: as `ArenaMemory.view`.
        """
        self.submit(self._renew).result()

    def run(self, model: DeviceModel, packed: np.ndarray, shape: BatchShape, controls: PackedControls) -> StepResult:
        """Launches a packed step, and what follows it; to be called where launches are made (`submit`)."""
        arrays = model.run(packed, shape, self.pools.under(model.devices))
        self.pools = self.pools.replaced(arrays.blocks_NE)  # before anything else can fail
        return model.follow(arrays, packed, shape, controls)

    def _take(self, step: Step) -> None:
        queue = self._queues.setdefault(step.model, LaunchQueue(self._clock))
        queue.steps.append(step)
        self._advance(step.model)

    def _advance(self, model: str) -> None:
        """Launches what is due of a model."""
        if queue := self._queues.get(model):  # it may have been dropped
            self._launch_due(model, queue)
            self._due_s = {name: other.due_s for name, other in self._queues.items()}
            if self._due_s and self._on_landing:
                self._on_landing()  # whoever waits for a step waits for this moment, too

    def _launch_due(self, model: str, queue: LaunchQueue) -> None:
        """In its order; if that cannot be, its flights tell why."""
        while queue.is_due:
            before = self.pools
            try:
                flight = self._start(queue.steps[0])
            except Exception as error:  # of whatever kind: this is where one model's troubles are kept from the others
                lost = self.pools.is_deleted
                if self.pools is before and not lost and self.models[model].has_tables and queue.failed(error):
                    if queue.tries == 1:
                        _log.warning("a step of %s cannot be launched, and is tried again for a while", model, exc_info=True)
                    return
                _log.exception("a step of %s cannot be launched", model)
                failure = _Failure(_line(error), lost)
                for _ in range(len(queue.steps)):
                    self._fly(_Flight(queue.launched(), None, failure, self._devices_of(model)))
            else:
                if queue.tries:
                    _log.warning("a step of %s is launched after %s tries that failed", model, queue.tries)
                queue.launched()
                self._fly(flight)
        if not queue.steps:
            del self._queues[model]

    def _forget(self) -> None:
        self._queues.clear()
        self._due_s = {}
        self.pools.delete()

    def _renew(self) -> None:
        self.pools = Pools.of(self._arena.view(self._number))
        for model in self.models.values():
            model.reset()

    def _take_over(self) -> None:
        """What has been launched is the loop's from now on."""
        while not self._launched.empty():
            self._flights.append(self._launched.get_nowait())

    def _heed(self, launch: "Future[None]") -> None:
        """What a launch raises that nobody has foreseen is the loop's to hear of."""
        if defect := launch.exception():
            self._defect = defect
            if self._on_landing:
                self._on_landing()

    def _failed(self, step: Step, failure: "_Failure") -> Done:
        """What a failed step costs: if it has taken with it what it was to write to, whatever models have there by now."""
        if failure.lost:
            self.drop()
            self.renew()
        fault = Fault(what=failure.what, lost_models=frozenset(self.models) if failure.lost else frozenset())
        return Done(step_id=step.id, tokens=np.zeros(0, np.int32), at_s=time.monotonic(), fault=fault)

    def _first_ended(self) -> int | None:
        """Where in flight the first step is that has ended, with none before it on a device of its own."""
        busy: set[jax.Device] = set()
        for place, flight in enumerate(self._flights):
            if busy.isdisjoint(flight.devices) and flight.is_ready:
                return place
            busy |= flight.devices
        return None

    def _devices_of(self, model: str) -> frozenset[jax.Device]:
        return frozenset(self.models[model].devices.each)

    def _fly(self, flight: "_Flight") -> None:
        self._launched.put(flight)
        if on_landing := self._on_landing:
            if flight.devices not in self._watches:
                self._watches[flight.devices] = Watch(on_landing, f"muxjax-lane-{self._number}")
            self._watches[flight.devices].add(flight.wait)

    def _start(self, step: Step) -> "_Flight":
        model = self.models[step.model]
        if len(step.delta.slots):
            entries = batch.delta_entries(len(step.delta.slots))
            model.update_tables(batch.pack_delta(step.delta, entries))
        model.place_adapters(step)
        shape = model.shape(step)
        result = self.run(model, batch.pack(step, shape), shape, model.post_step.pack(step, shape))
        for array in jax.tree.leaves(result):
            array.copy_to_host_async()
        return _Flight(step, shape, result, self._devices_of(step.model))


class _Failure(NamedTuple):
    """Why a step has come to nothing, and whether it has taken with it what its lane writes to."""

    what: str
    lost: bool


class _Flight(NamedTuple):
    """A launched step, or why it could not be."""

    step: Step
    shape: BatchShape | None
    result: StepResult | _Failure
    devices: frozenset[jax.Device]

    @property
    def is_ready(self) -> bool:
        return isinstance(self.result, _Failure) or all(map(_is_ready, jax.tree.leaves(self.result)))

    def wait(self) -> None:
        """Until it has ended, well or not."""
        if not isinstance(self.result, _Failure):
            with suppress(jax.errors.JaxRuntimeError):
                jax.block_until_ready(self.result)

    def ended(self) -> Done | _Failure:
        """Waits for it. A step that fails on the device takes with it what its lane writes to."""
        if isinstance(self.result, _Failure):
            return self.result
        try:
            return self._read(self.result)
        except jax.errors.JaxRuntimeError as error:
            _log.exception("a step of %s has failed", self.step.model)
            return _Failure(_line(error), lost=True)

    def _read(self, result: StepResult) -> Done:
        step, shape = self.step, self.shape
        assert shape is not None
        return Done(
            step_id=step.id,
            tokens=batch.unpack(np.asarray(result.tokens_B), step, shape),
            logprobs=logprobs_of(result.logprobs, batch.row_places(step, shape)),
            prompt_logprobs=logprobs_of(result.prompt_logprobs, batch.token_places(step)),
            hidden=None if result.hidden_BM is None else batch.unpack(np.asarray(result.hidden_BM), step, shape),
            at_s=time.monotonic(),
            padding_tokens=shape.tokens - step.computed,
        )


def _line(error: Exception) -> str:
    """The kind of an error, for a client; the log has the rest."""
    return f"a step of it ended in {type(error).__name__}"


def _is_ready(array: jax.Array) -> bool:
    return array.is_ready()  # pyright: ignore[reportAttributeAccessIssue]  (every array has it, the stub does not)
