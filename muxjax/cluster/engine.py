"""An engine made of units elsewhere: it gives each request to one, and to another where that one is lost."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from muxjax.cluster.facts import checker_of, grammars_of
from muxjax.cluster.launcher import Launcher
from muxjax.cluster.ledger import Entry, Ledger
from muxjax.cluster.messages import Cancel, Refused, Submit, Turn, jobs_of, outputs_of
from muxjax.cluster.options import SILENCE_S
from muxjax.cluster.plan import UnitSpec
from muxjax.cluster.remote_unit import RemoteUnit, UnitState
from muxjax.engine.device_control import ProgramProgress
from muxjax.engine.engine import OnOutputs
from muxjax.engine.grammar import Grammars
from muxjax.engine.job_records import OnJob
from muxjax.engine.options import ModelOptions
from muxjax.engine.request_checker import Prepared, RequestChecker
from muxjax.engine.stats import Status, UnitStats, merged
from muxjax.errors import RequestError
from muxjax.scheduler.router import Replica, route
from muxjax.types import Finish, Output, Request

MOST_LOSSES = 3
"""A request that has lost so many units is suspected of it, and ends."""
_RETRY_S = 5.0
_log = logging.getLogger(__name__)
T = TypeVar("T")


class ClusterEngine:
    """Serves the models of several units. What it is asked, it is asked in the thread of the event loop that it was started on, but for
    `prepare`, `drain`, `stop` and the counts, which may be asked from any.

    Args:
      specs: of the units.
      report: is told what workers say of their start.
      silence_s: as of `RemoteUnit`.
    """

    def __init__(
        self,
        specs: Iterable[UnitSpec],
        launcher: Launcher,
        *,
        report: Callable[[str], object],
        silence_s: float = SILENCE_S,
    ):
        self._specs, self._launcher = tuple(specs), launcher
        self._grammars: dict[str, Grammars | None] = {}  # of each model's tokenizer
        self._report, self._silence_s = report, silence_s
        self._units: Mapping[str, RemoteUnit] = {}  # by name; replaced, never changed
        self._checkers: Mapping[str, RequestChecker] = {}  # of units that have facts; likewise
        self._ledger = Ledger()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._on_outputs: OnOutputs = lambda outputs: None
        self._on_job: list[OnJob] = []
        self._closed = self._stopped = False
        self._changed = asyncio.Event()

    @property
    def healthy(self) -> bool:
        """Some unit serves, or will."""
        return not self._stopped and any(unit.state is not UnitState.FAILED for unit in self._units.values())

    @property
    def units(self) -> Mapping[str, RemoteUnit]:
        """Units by name."""
        return self._units

    def learn(self, model: ModelOptions) -> None:
        """Reads what a model's requests are checked by, before it is served; takes a while.

        Raises:
          ConfigError: it cannot be read.
        """
        self._grammars[model.name] = grammars_of(model)

    def watch(self, on_job: OnJob) -> None:
        """As of `Engine`."""
        self._on_job.append(on_job)

    def start(self, on_outputs: OnOutputs) -> None:
        """Has every unit started, in the running event loop."""
        self._loop, self._thread, self._on_outputs = asyncio.get_running_loop(), threading.current_thread(), on_outputs
        self._units = {spec.name: self._unit(spec) for spec in self._specs}
        for unit in self._units.values():
            unit.start()

    async def settled(self) -> None:
        """Returns when no unit is on its way: each serves, or has failed."""
        while any(unit.state.is_coming for unit in self._units.values()):
            self._changed.clear()
            await self._changed.wait()

    def prepare(self, request: Request) -> Prepared:
        """As of `Engine`, by what the model's units have said.

        Raises:
          RequestError: it can never be served, or its model not now.
        """
        return self._checker(request.model).prepare(request)

    def submit(self, request: Request, *, prepared: bool = False) -> None:
        """Takes a request, which ends in exactly one Output with a finish, whichever units are lost meanwhile.

        Raises:
          RequestError: as of `Engine.submit`.
        """
        if self._closed:
            raise RequestError("The server takes no more requests.", code="unavailable", status=503)
        self._check(request, prepared=prepared)
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
        return {name: unit.pulse.stats for name, unit in self._units.items() if unit.pulse and unit.pulse.stats}

    def states(self) -> Mapping[str, str]:
        """State of each model in a word, the best of its units'."""
        states: dict[str, str] = {}
        for unit in self._units.values():
            for model, state in _model_states(unit).items():
                states[model] = min(state, states.get(model, state), key=_best)
        return states

    def programs(self) -> Mapping[str, ProgramProgress]:
        """How far each model's programs are, where they have come least far."""
        found: dict[str, ProgramProgress] = {}
        for unit in self._units.values():
            for model, progress in (unit.pulse.programs if unit.pulse else {}).items():
                found[model] = min(progress, found.get(model, progress))
        return found

    def drain(self, timeout_s: float) -> bool:
        """As of `Engine.drain`; from another thread than the event loop's."""
        return self.in_loop(self._drain(timeout_s))

    def stop(self) -> None:
        """Ends every request, and every worker; from another thread than the event loop's."""
        self.in_loop(self._stop())

    async def leave(self) -> None:
        """Lets the workers go on without this front, as if it had been killed."""
        self._closed = self._stopped = True
        for unit in self._units.values():
            unit.leave()

    def unit_ready(self, unit: RemoteUnit) -> None:
        """It has facts, perhaps other ones: whoever waited for that may go on."""
        assert unit.facts is not None
        self._checkers = {**self._checkers, unit.name: checker_of(unit.facts, self._grammars)}
        for entry in self._ledger.of(None):
            self._give(entry)
        self._changed.set()

    def unit_lost(self, unit: RemoteUnit) -> None:
        """Its requests go on elsewhere, or wait until it is back."""
        for entry in self._ledger.of(unit):
            entry.leave()
            entry.losses += 1
            self._go_on(entry)
        for entry in self._ledger.of(None):
            self._give(entry)  # it may be that nobody is coming any more
        self._changed.set()

    def unit_turned(self, unit: RemoteUnit, turn: Turn) -> None:
        """Its outputs go to whoever waits for them."""
        now_s = time.monotonic()
        for job in jobs_of(turn, now_s):
            job = replace(job, unit=unit.name)
            for on_job in self._on_job:
                on_job(job)
        told = []
        for output in outputs_of(turn, now_s):
            entry = self._ledger.find(output.request_id)
            if entry is None or entry.unit is not unit:
                continue  # another unit has gone on with it
            if output.finish in (Finish.ABORT, Finish.FAILED) and not entry.cancelled and self._elsewhere(entry, unit):
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
        self._end(entry, Finish.ERROR if refused.status == 500 else Finish.FAILED)

    def _unit(self, spec: UnitSpec) -> RemoteUnit:
        return RemoteUnit(spec, self._launcher, self, silence_s=self._silence_s, report=self._report)

    def _check(self, request: Request, *, prepared: bool) -> None:
        """Raises RequestError: no unit could serve it."""
        self._checker(request.model)
        error: RequestError | None = None
        for checker in self._checkers_of(request.model):
            try:
                return checker.check(request, prepared=prepared)
            except RequestError as refused:
                error = refused
        raise error or self._not_now(request.model)

    def _checker(self, model: str) -> RequestChecker:
        """Raises RequestError: no unit has said anything of the model yet, or none ever will."""
        if not any(unit.state is UnitState.READY or unit.state is UnitState.RESTARTING for unit in self._units_of(model)):
            raise self._not_now(model)
        checkers = self._checkers_of(model)
        if not checkers:
            raise self._not_now(model)
        return checkers[0]

    def _checkers_of(self, model: str) -> list[RequestChecker]:
        """What is known of the model, by the largest cache first."""
        there = [checker for checker in self._checkers.values() if model in checker.models]
        return sorted(there, key=lambda checker: -checker.total_blocks)

    def _not_now(self, model: str) -> RequestError:
        units = self._units_of(model)
        if any(unit.state.is_coming for unit in units):
            text = f"The model `{model}` is loading."
            return RequestError(text, param="model", code="model_loading", status=503, retry_after_s=_RETRY_S)
        trouble = "; ".join(f"unit {unit.name}: {unit.trouble}" for unit in units if unit.trouble)
        text = f"The model `{model}` has failed: {trouble or 'no unit serves it'}."
        return RequestError(text, param="model", code="model_failed", status=503)

    def _units_of(self, model: str) -> list[RemoteUnit]:
        """Units that serve the model, or are to."""
        return [unit for unit in self._units.values() if model in unit.spec.models]

    def _takers(self, model: str) -> list[RemoteUnit]:
        """Units that take requests for it now."""
        return [unit for unit in self._units.values() if unit.state is UnitState.READY and _takes(self._checkers.get(unit.name), model)]

    def _give(self, entry: Entry, *, but: RemoteUnit | None = None) -> bool:
        """Gives a request to a unit, or has it wait for one that is coming; else it ends. Whether some unit has it."""
        model = entry.request.model
        takers = [unit for unit in self._takers(model) if unit is not but]
        if takers:
            replicas = [Replica(unit.outstanding_tokens, unit.spec.rate_rps(model), unit.routed) for unit in takers]
            unit = takers[route(replicas, entry.request.most_tokens)]
            entry.enter(unit)
            unit.send(Submit(time.monotonic(), entry.onward))
            return True
        if but is None and not any(unit.state.is_coming for unit in self._units_of(model)):
            self._end(entry, Finish.FAILED)
        return False

    def _go_on(self, entry: Entry) -> None:
        """A unit was lost with this request on it."""
        if entry.cancelled:
            self._end(entry, Finish.ABORT)
        elif entry.losses >= MOST_LOSSES:
            _log.error("request %s ends: %d units were lost while they had it", entry.request.id, entry.losses)
            self._end(entry, Finish.ERROR)
        else:
            self._give(entry)

    def _elsewhere(self, entry: Entry, unit: RemoteUnit) -> bool:
        """Another unit goes on with a request that this one has ended for a reason of its own."""
        if self._stopped or not [taker for taker in self._takers(entry.request.model) if taker is not unit]:
            return False
        entry.leave()
        entry.losses += 1
        return self._give(entry, but=unit)

    def _end(self, entry: Entry, finish: Finish) -> None:
        """Ends a request that no unit has."""
        self._ledger.end(entry)
        self._on_outputs([Output(entry.request.id, None, finish, time.monotonic())])
        self._changed.set()

    async def _drain(self, timeout_s: float) -> bool:
        self._closed = True
        until_s = time.monotonic() + timeout_s
        while len(self._ledger) and time.monotonic() < until_s:
            await asyncio.sleep(0.02)
        return not len(self._ledger)

    async def _stop(self) -> None:
        self._closed = self._stopped = True
        await asyncio.gather(*(unit.stop() for unit in self._units.values()))
        for entry in self._ledger:
            entry.leave()
            self._end(entry, Finish.ABORT)

    def in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Result of what is done in the event loop's thread; from another one."""
        assert self._loop is not None and threading.current_thread() is not self._thread, "this would wait for itself"
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _takes(checker: RequestChecker | None, model: str) -> bool:
    return checker is not None and model in checker.models and checker.models[model].status is Status.READY


_ORDER: Sequence[str] = ("ready", "waking", "asleep", "falling asleep", "restarting", "loading", "draining", "unloading", "failed")


def _best(state: str) -> int:
    return _ORDER.index(state) if state in _ORDER else len(_ORDER)


def _model_states(unit: RemoteUnit) -> Mapping[str, str]:
    """State of each model of a unit."""
    if unit.state is UnitState.READY and unit.pulse:
        return unit.pulse.states
    state = "failed" if unit.state is UnitState.FAILED else "loading"
    return dict.fromkeys(unit.spec.models, state)
