"""A unit's loop in a thread of its own: requests in, token events out."""

import gc
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import TypeVar

from muxjax.engine.executor import WakeableExecutor
from muxjax.engine.job_records import OnJob
from muxjax.engine.loop import turn
from muxjax.engine.request_checker import Prepared, RequestChecker
from muxjax.engine.stats import ONLY_UNIT, Status, UnitStats
from muxjax.engine.unit import Unit
from muxjax.engine.watchdog import Watchdog
from muxjax.errors import RequestError
from muxjax.scheduler.view import Policy
from muxjax.types import Finish, Output, Request

_log = logging.getLogger(__name__)

T = TypeVar("T")
Command = Callable[[], list[Output]]
OnOutputs = Callable[[list[Output]], None]


_POLL_S = 0.01
_OBEY_S = 0.02
"""For commands between two turns: hundreds of requests."""
_CHECK_S = 1.0
_SWITCH_S = 2e-4
"""For which a thread that waits for Python lets another one have it, in place of 5 ms: a request would wait so long to be heard beside a
turn, and a turn that is back from the device beside an answer that is written."""


class MonotonicClock:
    """`time.monotonic`: requests carry their arrival on it."""

    def now_s(self) -> float:
        return time.monotonic()


class Engine:
    """Serves a unit's models until it is stopped. All methods may be called from any thread.

    The unit belongs to the engine's thread: others hand it commands, and read counts.
    """

    def __init__(self, unit: Unit, policy: Policy, executor: WakeableExecutor, *, step_timeout_s: float = 300.0):
        """A step that takes longer than step_timeout_s makes it unhealthy until that step ends."""
        self._unit, self._policy, self._executor = unit, policy, executor
        self._clock = MonotonicClock()
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._live: set[str] = set()  # ids of the requests that have been taken and have not ended
        self._intake_lock = threading.Lock()  # nobody slips in while it closes
        self._closed = threading.Event()  # to new requests
        self._stopping = threading.Event()
        self._settled = threading.Event()  # closed, and nothing left to do
        self._thread = threading.Thread(target=self._run, name="muxjax-engine", daemon=True)
        self._on_outputs: OnOutputs = lambda outputs: None
        self._since_s: float | None = None  # launch of the oldest step in flight, or begin of this turn
        self._watchdog = Watchdog(self._age_s, self._what, step_timeout_s)
        self._on_stop: list[Callable[[], object]] = []
        self._alive = True

    @property
    def healthy(self) -> bool:
        """It has neither died nor got stuck."""
        return self._alive and not self._watchdog.stuck

    def start(self, on_outputs: OnOutputs) -> None:
        """Begins to serve; `on_outputs` is called from the engine's thread, at most once a turn."""
        self._on_outputs = on_outputs
        gc.collect()
        gc.freeze()  # what is loaded by now stays, and is not looked through again between two turns
        sys.setswitchinterval(min(_SWITCH_S, sys.getswitchinterval()))
        self._thread.start()
        self._watchdog.start()

    def watch(self, on_job: OnJob) -> None:
        """Tells one more of each job that ends, in the engine's thread; to be called before the start."""
        self._unit.watch(on_job)

    @property
    def checker(self) -> RequestChecker:
        """Facts by which requests are checked, another value whenever one of them changes."""
        return self._unit.checker

    def prepare(self, request: Request) -> Prepared:
        """Does beforehand what takes time in `submit`; see `RequestChecker.prepare`. From any thread."""
        return self._unit.checker.prepare(request)

    def submit(self, request: Request, *, prepared: bool = False) -> None:
        """Takes a request, which ends in exactly one Output with a finish.

        Args:
          prepared: it has passed `prepare`, and what that made is held until it ends.
        Raises:
          RequestError: it can never be served, its id is in use (409), or the engine or its model takes no more (503).
        """
        with self._intake_lock:  # a model that closes meanwhile closes before, or has this request among the commands
            if self._closed.is_set():
                raise RequestError("The server takes no more requests.", code="unavailable", status=503)
            self._unit.checker.check(request, prepared=prepared)
            if request.id in self._live:
                raise RequestError(f"request id {request.id!r} is in use", param="request_id", status=409)
            self._live.add(request.id)
            self._commands.put(lambda: [] if self._stopping.is_set() else self._unit.submit(request))
        self._executor.wake()

    def cancel(self, request_id: str) -> None:
        """Ends a request early, in an Output with Finish.ABORT; an unknown or ended one is ignored."""
        self._commands.put(lambda: self._unit.cancel(request_id, now_s=self._clock.now_s()))

    def do(self, action: Callable[[], T]) -> T:
        """Result of an action, or what it raises, that the engine's thread carries out between two turns.

        Raises:
          RequestError: the engine has stopped (503).
        """
        result: Future[T] = Future()
        with self._intake_lock:
            if self._settled.is_set() or self._stopping.is_set():
                raise _stopped()
            self._commands.put(lambda: self._carry_out(action, result))
        while not wait([result], timeout=_CHECK_S).done:
            if self._stopping.is_set() and self._watchdog.stuck:
                raise _stopped()
        return result.result()

    def drain_model(self, model: str, timeout_s: float) -> None:
        """Takes no more requests for a model, and waits until it is not busy; ends those that take longer."""
        self.do(lambda: self._close_model(model))
        deadline_s = self._clock.now_s() + timeout_s
        while self.do(lambda: self._unit.busy(model)):
            if self._clock.now_s() > deadline_s:
                self._commands.put(lambda: self._unit.end_all(model, Finish.ABORT, now_s=self._clock.now_s()))
            time.sleep(_POLL_S)

    def stats(self) -> UnitStats:
        """Counts of this moment."""
        return self._unit.stats()

    def unit_stats(self) -> Mapping[str, UnitStats]:
        """The same by the name of the unit, of which there is one."""
        return {ONLY_UNIT: self.stats()}

    def states(self) -> Mapping[str, str]:
        """State of each model in a word."""
        return {model.name: model.status.value for model in self.stats().models}

    def drain(self, timeout_s: float) -> bool:
        """Takes no more requests and waits until all have ended: True if they did in time."""
        self._close()
        return self._settled.wait(timeout_s)

    def on_stop(self, action: Callable[[], object]) -> None:
        """Has something done first when it is stopped, by whoever stops it."""
        self._on_stop.append(action)

    def stop(self) -> None:
        """Ends every request and the thread."""
        for action in self._on_stop:
            action()
        self._stopping.set()
        self._close()
        while self._thread.is_alive() and not self._watchdog.stuck:
            self._thread.join(_POLL_S)
        self._watchdog.stop()
        gc.unfreeze()  # or nothing of it were ever freed, programs and weights among it

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._obey()
                if not self._unit.idle:
                    self._since_s = self._oldest_s or self._clock.now_s()
                    self._emit(turn(self._unit, self._policy, self._executor, self._clock))
                    self._since_s = self._oldest_s
                if self._closed.is_set() and self._unit.idle and self._commands.empty():
                    self._settled.set()
        except Exception:
            self._alive = False
            _log.exception("the engine has died")
        finally:
            self._since_s = None
            self._stopping.set()
            self._close()
            self._abort()
            self._settled.set()

    def _close(self) -> None:
        """Takes no more requests; every one that was taken is among the commands by now."""
        with self._intake_lock:
            self._closed.set()
            self._commands.put(list)  # wakes an idle thread

    def _obey(self) -> None:
        """Carries out commands, of a crowd only as many as keep no model waiting; waits for one when there is nothing else to do."""
        if self._unit.idle:
            self._emit(self._commands.get()())
        until_s = self._clock.now_s() + _OBEY_S
        while not self._commands.empty() and self._clock.now_s() < until_s:
            self._emit(self._commands.get()())

    def _abort(self) -> None:
        """Ends every request, and what the unit has of them if it can be trusted."""
        while not self._commands.empty():
            self._emit(self._commands.get()())
        for request_id in self._unit.unfinished if self._alive else ():
            self._emit(self._unit.cancel(request_id, now_s=self._clock.now_s()))
        self._emit([Output(request_id, None, Finish.ABORT, self._clock.now_s()) for request_id in self._live])

    def _carry_out(self, action: Callable[[], T], result: "Future[T]") -> list[Output]:
        if self._stopping.is_set():
            result.set_exception(_stopped())
            return []
        try:
            result.set_result(action())
        except Exception as error:  # whoever asked for it is told
            result.set_exception(error)
        return []

    def _close_model(self, model: str) -> None:
        with self._intake_lock:  # whoever was let in is among the commands by now
            if self._unit.status(model) is Status.READY:
                self._unit.turn_to(model, Status.DRAINING)

    def _emit(self, outputs: list[Output]) -> None:
        self._live.difference_update([output.request_id for output in outputs if output.finish is not None])
        if outputs:
            self._on_outputs(outputs)

    @property
    def _oldest_s(self) -> float | None:
        oldest = self._unit.oldest_step
        return oldest[1] if oldest else None

    def _what(self) -> str:
        """What does not end, for the log."""
        oldest = self._unit.oldest_step
        return f"a step of {oldest[0].model} on lane {oldest[0].lane}" if oldest else "a turn"

    def _age_s(self) -> float:
        since_s = self._since_s
        return 0.0 if since_s is None else self._clock.now_s() - since_s


def _stopped() -> RequestError:
    return RequestError("The engine has stopped.", code="unavailable", status=503)
