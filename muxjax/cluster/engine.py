"""An engine made of units elsewhere: it gives each request to one, and to another where that one is lost."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from muxjax.cluster.launcher import Launcher
from muxjax.cluster.ledger import Entry, Ledger
from muxjax.cluster.options import SILENCE_S
from muxjax.cluster.places import Places
from muxjax.cluster.plan import UnitSpec
from muxjax.cluster.remote_unit import RemoteUnit, UnitState
from muxjax.cluster.wire.messages import Cancel, Refused, Submit, Turn, jobs_of, outputs_of
from muxjax.engine.device_control import ProgramProgress
from muxjax.engine.engine import OnOutputs
from muxjax.engine.job_records import OnJob
from muxjax.engine.options import ModelOptions
from muxjax.engine.request_checker import Prepared
from muxjax.engine.stats import UnitStats, merged
from muxjax.errors import ConfigError, RequestError
from muxjax.model_spec import ModelSpec
from muxjax.scheduler.router import Replica, route
from muxjax.types import Finish, Output, Request

MOST_LOSSES = 3
"""A request that has lost so many units is suspected of it, and ends."""
_POLL_S = 0.05
_log = logging.getLogger(__name__)
T = TypeVar("T")


class ClusterEngine:
    """Serves the models of several units. What it is asked, it is asked in the thread of the event loop that it was started on, but for
    `learn`, `prepare`, `drain`, `stop` and the counts, which may be asked from any.

    Args:
      specs: of the units.
      report: is told what workers say of their start.
      silence_s: as of `RemoteUnit`.

    Attributes:
      one_change: held by whoever changes which units there are, or their models: nobody finds a change half made.
    """

    def __init__(self, specs: Iterable[UnitSpec], launcher: Launcher, *, report: Callable[[str], object], silence_s: float = SILENCE_S):
        self._specs, self._launcher, self._report, self._silence_s = tuple(specs), launcher, report, silence_s
        self._places = Places()
        self._ledger = Ledger()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._on_outputs: OnOutputs = lambda outputs: None
        self._on_job: list[OnJob] = []
        self._closed = self._stopped = False
        self.one_change = asyncio.Lock()
        self._going: set[RemoteUnit] = set()  # dropped, with a worker that has not ended yet

    @property
    def healthy(self) -> bool:
        """Some unit serves, or will; while all are replaced by others, there may be none."""
        some = self._places.is_changing or any(unit.state is not UnitState.FAILED for unit in self.units.values())
        return not self._stopped and some

    @property
    def units(self) -> Mapping[str, RemoteUnit]:
        """Units by name."""
        return self._places.units

    def learn(self, model: ModelOptions, spec: ModelSpec) -> None:
        """Reads what a model's requests are checked by, before it is served; takes a while.

        Raises:
          ConfigError: it cannot be read.
        """
        self._places.learn(model, spec)

    def watch(self, on_job: OnJob) -> None:
        """As of `Engine`."""
        self._on_job.append(on_job)

    def start(self, on_outputs: OnOutputs) -> None:
        """Has every unit started, in the running event loop."""
        self._loop, self._thread, self._on_outputs = asyncio.get_running_loop(), threading.current_thread(), on_outputs
        for spec in self._specs:
            self.add_unit(spec)

    def prepare(self, request: Request) -> Prepared:
        """As of `Engine`, by what the model's units have said.

        Raises:
          RequestError: it can never be served, or its model not now.
        """
        return self._places.checker(request.model).prepare(request)

    def submit(self, request: Request, *, prepared: bool = False) -> None:
        """Takes a request, which ends in exactly one Output with a finish, whichever units are lost meanwhile.

        Raises:
          RequestError: as of `Engine.submit`.
        """
        if self._closed:
            raise RequestError("The server takes no more requests.", code="unavailable", status=503)
        self._places.check(request, prepared=prepared)
        if request.id in self._ledger:
            raise RequestError(f"request id {request.id!r} is in use", param="request_id", status=409)
        self._give(self._ledger.add(request))

    def cancel(self, request_id: str) -> None:
        """As of `Engine.cancel`."""
        entry = self._ledger.find(request_id)
        if entry is None:
            return
        entry.cancelled = True
        if entry.unit is None:
            self._end(entry, Finish.ABORT)
        else:
            entry.unit.send(Cancel(request_id))

    def stats(self) -> UnitStats:
        """Counts of all units together."""
        return merged(self.unit_stats().values())

    def unit_stats(self) -> Mapping[str, UnitStats]:
        """Counts of each unit that serves."""
        return self._places.unit_stats()

    def states(self) -> Mapping[str, str]:
        """State of each model in a word, the best of its units'."""
        return self._places.states()

    def programs(self) -> Mapping[str, ProgramProgress]:
        """How far each model's programs are, where they have come least far."""
        return self._places.programs()

    def drain(self, timeout_s: float) -> bool:
        """As of `Engine.drain`; from another thread than the event loop's."""
        return self.in_loop(self._drain(timeout_s))

    def stop(self) -> None:
        """Ends every request, and every worker; from another thread than the event loop's."""
        self.in_loop(self._stop())

    async def leave(self) -> None:
        """Lets the workers go on without this front, as if it had been killed."""
        self._closed = self._stopped = True
        for unit in self.units.values():
            unit.leave()

    def add_unit(self, spec: UnitSpec) -> RemoteUnit:
        """One more unit, which starts at once.

        Raises:
          ConfigError: nobody would stop it any more.
        """
        if self._stopped:
            raise ConfigError("the server ends", field="placement")
        unit = RemoteUnit(spec, self._launcher, self, silence_s=self._silence_s, report=self._report)
        self._places.add(unit)
        unit.start()
        return unit

    async def drop_unit(self, name: str) -> None:
        """Ends a unit and its worker; what it has of requests goes on elsewhere."""
        unit = self._places.drop(name)
        for entry in self._ledger.of(unit):
            unit.send(Cancel(entry.request.id))
            self._take_back(entry)
        self._give_waiting()
        self._going.add(unit)
        try:
            await unit.stop()
        finally:
            self._going.discard(unit)

    @contextlib.contextmanager
    def expecting(self, models: Iterable[str]) -> Iterator[None]:
        """Requests for these models wait where nobody serves them: somebody will."""
        with self._places.expecting(models):
            yield
        self._give_waiting()

    @contextlib.contextmanager
    def closing(self, name: str, models: Iterable[str]) -> Iterator[None]:
        """The unit gets no more requests for these models."""
        with self._places.closing(name, models):
            yield
        self._give_waiting()

    async def drain_unit(self, name: str, models: Iterable[str], timeout_s: float) -> None:
        """Returns when the unit has no requests for these models, or after so long."""
        models, until_s = set(models), time.monotonic() + timeout_s
        while any(entry.request.model in models for entry in self._ledger.of(self.units[name])) and time.monotonic() < until_s:
            await asyncio.sleep(_POLL_S)

    def served_beside(self, name: str, model: str) -> bool:
        """Another unit serves the model too."""
        return any(unit.name != name for unit in self._places.takers(model))

    def unit_ready(self, unit: RemoteUnit) -> None:
        """It has facts, perhaps other ones: whoever waited for that may go on."""
        if self.units.get(unit.name) is not unit:
            return  # it was dropped meanwhile
        self._places.note_facts(unit)
        self._give_waiting()

    def unit_lost(self, unit: RemoteUnit) -> None:
        """Its requests go on elsewhere, or wait until it is back."""
        for entry in self._ledger.of(unit):
            self._take_back(entry)
            self._go_on(entry)
        self._give_waiting()

    def unit_turned(self, unit: RemoteUnit, turn: Turn) -> None:
        """Its outputs go to whoever waits for them."""
        now_s = time.monotonic()
        for job in jobs_of(turn, now_s, unit.name):
            for on_job in self._on_job:
                on_job(job)
        told = []
        for output in outputs_of(turn, now_s):
            entry = self._ledger.find(output.request_id)
            if entry is None or entry.unit is not unit:
                continue  # another unit has gone on with it
            if output.finish in (Finish.ABORT, Finish.FAILED) and self._elsewhere(entry, unit):
                continue
            output = entry.take(output)
            if output.finish is not None:
                entry.leave()
                self._ledger.end(entry)
            told.append(output)
        if told:
            self._on_outputs(told)

    def unit_refused(self, unit: RemoteUnit, refused: Refused) -> None:
        """The unit's facts had changed: another one may take it."""
        entry = self._ledger.find(refused.request_id)
        if entry is None or entry.unit is not unit or self._elsewhere(entry, unit):
            return
        _log.warning("unit %s refused a request: %s", unit.name, refused.message)
        entry.leave()
        failed = Finish.ERROR if refused.status == 500 else Finish.FAILED
        self._end(entry, Finish.ABORT if entry.cancelled else failed)

    def in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Result of what is done in the event loop's thread; from another one."""
        assert self._loop is not None and threading.current_thread() is not self._thread, "this would wait for itself"
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _give_waiting(self) -> None:
        """Those that wait for a unit have one by now, or nobody is coming any more."""
        for entry in self._ledger.of(None):
            self._give(entry)

    def _give(self, entry: Entry) -> None:
        """Gives a request to a unit, or has it wait for one that is coming; else it ends."""
        takers = self._places.takers(entry.request.model)
        if entry.cancelled:
            self._end(entry, Finish.ABORT)
        elif takers:
            self._send(entry, takers)
        elif not self._places.is_coming(entry.request.model):
            self._end(entry, Finish.FAILED)

    def _send(self, entry: Entry, takers: list[RemoteUnit]) -> None:
        model = entry.request.model
        replicas = [Replica(unit.outstanding_tokens, unit.spec.rate_rps(model), unit.routed) for unit in takers]
        unit = takers[route(replicas)]
        entry.enter(unit)
        unit.send(Submit(time.monotonic(), entry.onward))

    def _go_on(self, entry: Entry) -> None:
        """A unit was lost with this request on it."""
        entry.losses += 1
        if entry.losses >= MOST_LOSSES and not entry.cancelled:
            _log.error("request %s ends: %d units were lost while they had it", entry.request.id, entry.losses)
            self._end(entry, Finish.ERROR)
        else:
            self._give(entry)

    def _elsewhere(self, entry: Entry, unit: RemoteUnit) -> bool:
        """Another unit goes on with a request that this one has ended for a reason of its own."""
        others = [taker for taker in self._places.takers(entry.request.model) if taker is not unit]
        if self._stopped or entry.cancelled or entry.refusals >= MOST_LOSSES or not others:
            return False
        entry.refusals += 1
        self._take_back(entry)
        self._send(entry, others)
        return True

    def _take_back(self, entry: Entry) -> None:
        """Whoever gets it next goes on where this unit has stopped."""
        entry.leave()
        entry.moved = True

    def _end(self, entry: Entry, finish: Finish) -> None:
        """Ends a request that no unit has."""
        self._ledger.end(entry)
        self._on_outputs([Output(entry.request.id, None, finish, time.monotonic())])

    async def _drain(self, timeout_s: float) -> bool:
        self._closed = True
        until_s = time.monotonic() + timeout_s
        while len(self._ledger) and time.monotonic() < until_s:
            await asyncio.sleep(0.02)
        return not len(self._ledger)

    async def _stop(self) -> None:
        self._closed = self._stopped = True
        await asyncio.gather(*(unit.stop() for unit in [*self.units.values(), *self._going]))
        for entry in self._ledger:
            entry.leave()
            self._end(entry, Finish.ABORT)
