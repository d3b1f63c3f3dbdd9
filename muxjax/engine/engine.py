"""A unit's loop in a thread of its own: requests in, token events out."""

import gc
import logging
import queue
import threading
import time
from collections.abc import Callable

from muxjax.engine.executor import Executor
from muxjax.engine.jobs import JobWatch, OnJob
from muxjax.engine.loop import turn
from muxjax.engine.stats import UnitStats
from muxjax.engine.unit import Unit
from muxjax.errors import RequestError
from muxjax.scheduler.view import Policy
from muxjax.types import Output, Request

_log = logging.getLogger(__name__)

Command = Callable[[], list[Output]]
OnOutputs = Callable[[list[Output]], None]


class MonotonicClock:
    """`time.monotonic`: requests carry their arrival on it."""

    def now_s(self) -> float:
        return time.monotonic()


class Engine:
    """Serves a unit's models until it is stopped. All methods may be called from any thread.

    The unit belongs to the engine's thread: others hand it commands, and read counts.
    """

    def __init__(self, unit: Unit, policy: Policy, executor: Executor):
        self._unit, self._policy, self._executor = unit, policy, executor
        self._clock = MonotonicClock()
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._door = threading.Lock()  # nobody slips in while it closes
        self._closed = threading.Event()  # to new requests
        self._stopping = threading.Event()
        self._settled = threading.Event()  # closed, and nothing left to do
        self._thread = threading.Thread(target=self._run, name="muxjax-engine", daemon=True)
        self._on_outputs: OnOutputs = lambda outputs: None
        self._watch: JobWatch | None = None
        self.healthy = True

    def start(self, on_outputs: OnOutputs) -> None:
        """Begins to serve; `on_outputs` is called from the engine's thread, at most once a turn."""
        self._on_outputs = on_outputs
        gc.collect()
        gc.freeze()  # what is loaded by now stays, and is not looked through again between two turns
        self._thread.start()

    def watch(self, on_job: OnJob) -> None:
        """Tells of each job that ends, in the engine's thread; to be called before the start."""
        self._watch = JobWatch(on_job)

    def submit(self, request: Request) -> None:
        """Takes a request, which ends in exactly one Output with a finish.

        Raises:
          RequestError: it can never be served, or the engine takes no more (503).
        """
        self._unit.check(request)
        with self._door:
            if self._closed.is_set():
                raise RequestError("The server takes no more requests.", code="unavailable", status=503)
            self._commands.put(lambda: self._unit.submit(request) or [])

    def cancel(self, request_id: str) -> None:
        """Ends a request early, in an Output with Finish.ABORT; an unknown or ended one is ignored."""
        self._commands.put(lambda: self._unit.cancel(request_id, now_s=self._clock.now_s()))

    def stats(self) -> UnitStats:
        """Counts of this moment."""
        return self._unit.stats()

    def drain(self, timeout_s: float) -> bool:
        """Takes no more requests and waits until all have ended: True if they did in time."""
        self._close()
        return self._settled.wait(timeout_s)

    def stop(self) -> None:
        """Ends every request and the thread."""
        self._stopping.set()
        self._close()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._obey()
                if not self._unit.idle:
                    self._emit(turn(self._unit, self._policy, self._executor, self._clock, self._watch))
                if self._closed.is_set() and self._unit.idle and self._commands.empty():
                    self._settled.set()
        except Exception:
            self.healthy = False
            _log.exception("the engine has died")
        finally:
            self._close()
            self._abort()
            self._settled.set()

    def _close(self) -> None:
        """Takes no more requests; every one that was taken is among the commands by now."""
        with self._door:
            self._closed.set()
            self._commands.put(list)  # wakes an idle thread

    def _obey(self) -> None:
        """Carries out the commands there are; waits for one when there is nothing else to do."""
        wait = self._unit.idle
        while wait or not self._commands.empty():
            self._emit(self._commands.get()())
            wait = False

    def _abort(self) -> None:
        while not self._commands.empty():
            self._emit(self._commands.get()())
        for request_id in self._unit.unfinished:
            self._emit(self._unit.cancel(request_id, now_s=self._clock.now_s()))

    def _emit(self, outputs: list[Output]) -> None:
        if outputs:
            self._on_outputs(outputs)
