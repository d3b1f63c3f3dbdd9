"""A unit as the front knows it: its worker kept running, and what it last said of itself."""

import asyncio
import contextlib
import contextvars
import enum
import itertools
import logging
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from muxjax.cluster.launcher import Handle, Launcher, NoRoom
from muxjax.cluster.plan import UnitSpec, is_other_chip
from muxjax.cluster.wire.frames import WireError
from muxjax.cluster.wire.link import Link
from muxjax.cluster.wire.messages import Broken, Changed, Facts, FromWorker, Message, Pulse, Refused, Report, Stop, Turn, Welcome
from muxjax.errors import ConfigError, MuxError

MOST_STARTS = 3
"""Starts in a row that come to nothing, after which a unit has failed."""
PAUSES_S = (0.0, 1.0, 5.0)
"""Before a start, by how many before it, in a row, were no good ones; the last one before all that follow."""
STEADY_S = 60.0
"""A worker that has served for so long had a good start."""
LISTEN_S = 120.0
"""A worker that does not listen for so long after its start is stuck."""
_CONNECT_S, _LOOK_S, _POLL_S = 0.02, 0.05, 0.1
_STOP_S = 15.0
_log = logging.getLogger(__name__)


class UnitState(enum.StrEnum):
    """State of a unit: RESTARTING is one that has served before; WAITING one without devices, which starts as soon as there are some;
    STOPPED one that is no longer wanted."""

    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    WAITING = "waiting for devices"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_coming(self) -> bool:
        """It will serve, if all goes well."""
        return self in (UnitState.LOADING, UnitState.RESTARTING)

    @property
    def is_away(self) -> bool:
        """It does not serve, and nobody knows when it will."""
        return self in (UnitState.WAITING, UnitState.FAILED)


class Listener(Protocol):
    """Who is told of a unit, in the event loop's thread."""

    def unit_ready(self, unit: "RemoteUnit") -> None: ...
    def unit_lost(self, unit: "RemoteUnit") -> None: ...
    def unit_turned(self, unit: "RemoteUnit", turn: Turn) -> None: ...
    def unit_refused(self, unit: "RemoteUnit", refused: Refused) -> None: ...


class RemoteUnit:
    """One unit, from its first worker to its last.

    Args:
      silence_s: a worker that says nothing for so long is ended, and another one started.

    Attributes:
      trouble: why it has failed, or was last started again.
      facts: by which it takes requests; those of the last worker until the next one has its own.
      outstanding_tokens: of its requests, as of `router.Replica`; starts: of workers.
    """

    def __init__(self, spec: UnitSpec, launcher: Launcher, listener: Listener, *, silence_s: float, report: Callable[[str], object]):
        self.spec = spec
        self.state, self.trouble = UnitState.LOADING, ""
        self.facts: Facts | None = None
        self.pulse: Pulse | None = None
        self.outstanding_tokens, self.routed, self.starts = 0, 0, 0
        self._launcher, self._listener, self._silence_s, self._report = launcher, listener, silence_s, report
        self._handle: Handle | None = None
        self._link: Link | None = None
        self._lost = asyncio.Event()  # the worker of now is of no more use
        self._heard_s = self._ready_s = 0.0
        self._hopeless = False
        self._calls: dict[int, asyncio.Future[Changed]] = {}
        self._numbers = itertools.count(1)
        self._task: asyncio.Task | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    def start(self) -> None:
        """Has a worker serve it from now on, whatever befalls one."""
        self._task = asyncio.create_task(self._keep(), context=contextvars.Context())  # its log lines are of no request

    def send(self, message: Message) -> None:
        """Sends the worker a message; without one it is lost."""
        if self._link is not None:
            self._link.send(message)

    async def call(self, make: Callable[[int], Message]) -> Changed:
        """The worker's answer to a call, once it is carried out.

        Args:
          make: the message, by the number of the call.
        Raises:
          ConfigError: it was not carried out.
        """
        number = next(self._numbers)
        self._calls[number] = asyncio.get_running_loop().create_future()
        try:
            if self.state is not UnitState.READY:
                raise ConfigError(f"unit {self.name} is {self.state.value}")
            self.send(make(number))
            changed = await self._calls[number]
        finally:
            del self._calls[number]
        if changed.trouble:
            raise ConfigError(changed.trouble)
        return changed

    async def stop(self) -> None:
        """Ends the worker, with what it does; returns when its devices are free."""
        self.state = UnitState.STOPPED
        self._end_calls("it is stopped")
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.send(Stop())
        handle = self._handle
        if handle is not None:
            until_s = time.monotonic() + (_STOP_S if self._link else 0.0)
            while not await handle.gone() and time.monotonic() < until_s:
                await asyncio.sleep(_POLL_S)
            await handle.kill()
        self._drop_link()

    def leave(self) -> None:
        """Lets the worker go on without this front."""
        self.state = UnitState.STOPPED
        self._end_calls("its front ends")
        if self._task is not None:
            self._task.cancel()
        self._drop_link()

    async def _keep(self) -> None:
        fruitless = pause = 0
        while True:
            await asyncio.sleep(PAUSES_S[pause])
            self._ready_s = 0.0
            try:
                await self._serve_once()
            except NoRoom as error:
                self._wait(str(error))
                continue
            except (MuxError, WireError, OSError) as error:
                self.trouble, self._hopeless = str(error), isinstance(error, MuxError)
            except Exception as error:  # of a launcher: a unit that nobody keeps would load for ever
                _log.exception("the worker of unit %s cannot be kept", self.name)
                self.trouble = f"{type(error).__name__}: {error}"
            fruitless = 0 if self._ready_s else fruitless + 1
            pause = 0 if self._was_steady() else min(pause + 1, len(PAUSES_S) - 1)
            self._end_worker()
            if self._handle is not None:
                await self._handle.kill()
            if self._hopeless or fruitless == MOST_STARTS:
                break
            _log.warning("unit %s: %s; its worker is started again", self.name, self.trouble)
        self.state = UnitState.FAILED
        _log.error("unit %s has failed: %s", self.name, self.trouble)
        self._listener.unit_lost(self)  # now that nobody is coming any more

    def _wait(self, why: str) -> None:
        """Its requests do not wait with it."""
        if self.state is not UnitState.WAITING:
            _log.error("unit %s waits for devices: %s", self.name, why)
        self.state, self.trouble = UnitState.WAITING, why
        self._listener.unit_lost(self)

    def _was_steady(self) -> bool:
        return bool(self._ready_s) and time.monotonic() - self._ready_s > STEADY_S

    async def _serve_once(self) -> None:
        """Has a worker until it is of no more use; `trouble` says why.

        Raises:
          ConfigError, WireError, OSError: it never came.
        """
        self._lost.clear()
        self.starts += 1
        if self.state.is_coming:
            self._report(f"unit {self.name}: {self.state.value}, with {', '.join(self.spec.models)}")
        self._handle = handle = await self._launcher.start(self.spec)
        self._heard_s = time.monotonic()
        while self._link is None:
            try:
                async with asyncio.timeout(self._silence_s):  # not wait_for, in which Python 3.11 may lose a cancel
                    self._link = await Link.to(handle.address, self.spec.asked, self._hear, self._lose)
            except OSError as error:  # it does not listen yet, or has been silent for too long
                if await handle.gone():
                    raise WireError("the worker has ended before it listened, as the log says") from error
                if time.monotonic() - self._heard_s > LISTEN_S:
                    raise WireError(f"the worker has not listened for {LISTEN_S:g} s") from error
                await asyncio.sleep(_CONNECT_S)
        self._heard_s = time.monotonic()
        while not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(1.0, self._silence_s / 4)):
                    await self._lost.wait()
            if time.monotonic() - self._heard_s > self._silence_s:
                self._give_up(f"its worker has said nothing for {self._silence_s:g} s")

    def _hear(self, message: FromWorker) -> None:
        self._heard_s = time.monotonic()
        match message:
            case Turn():
                self._listener.unit_turned(self, message)
            case Pulse():
                self.pulse = message
                if not message.healthy:
                    self._give_up("its engine has died or is stuck")
            case Facts():
                self._learn(message)
            case Refused():
                self._listener.unit_refused(self, message)
            case Changed():
                waiting = self._calls.get(message.call)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
            case Report():
                self._report(f"unit {self.name}: {message.line}")
            case Welcome():
                if message.serves != self.spec.asked:
                    self._give_up("a worker was found that serves something else")
            case Broken():
                self._hopeless |= message.bad_input
                self._give_up(message.trouble)

    def _learn(self, facts: Facts) -> None:
        if is_other_chip(facts.device, self.spec.chip):
            self._hopeless = True
            self._give_up(f"the placement is for {self.spec.chip}, and the device is {facts.device}")
            return
        self.facts = facts
        if self.state.is_coming or self.state is UnitState.WAITING:
            self.state, self.trouble, self._ready_s = UnitState.READY, "", time.monotonic()
            self._report(f"unit {self.name}: ready, with {', '.join(self.spec.models)}")
        self._listener.unit_ready(self)

    def _lose(self) -> None:
        self._link = None
        self._give_up("its worker has ended")

    def _give_up(self, why: str) -> None:
        """The worker of now is of no more use: its requests go elsewhere at once."""
        if self._lost.is_set() or self.state is UnitState.STOPPED:
            return
        self.trouble = why
        self._lost.set()
        self._end_worker()

    def _end_worker(self) -> None:
        self._drop_link()
        if self.state is UnitState.READY:
            self.state = UnitState.RESTARTING
        self.pulse = None
        self._end_calls(self.trouble)
        self._listener.unit_lost(self)

    def _end_calls(self, why: str) -> None:
        """Nobody answers them any more."""
        for waiting in self._calls.values():
            if not waiting.done():
                waiting.set_result(Changed(0, f"unit {self.name}: {why}"))

    def _drop_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


async def arrived(units: Iterable[RemoteUnit]) -> None:
    """Returns when each serves, or has failed."""
    units = list(units)
    while any(unit.state.is_coming for unit in units):
        await asyncio.sleep(_LOOK_S)
