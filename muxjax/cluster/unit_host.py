"""A unit as its worker holds it: an engine, and what one front after another asks of it."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from muxjax.cluster.wire.connection import Connection
from muxjax.cluster.wire.messages import (
    Cancel,
    Changed,
    Facts,
    FromFront,
    Load,
    Message,
    ModelFact,
    Pulse,
    Refused,
    Remove,
    Sleep,
    Submit,
    Turn,
    Wake,
    arrived,
    refusal,
)
from muxjax.engine.device_control import Lifecycle
from muxjax.engine.engine import Engine
from muxjax.engine.job_records import JobRecord
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.engine.request_checker import RequestChecker
from muxjax.errors import MuxError, RequestError
from muxjax.model_spec import ModelSpec
from muxjax.types import Finish, Output, Request

_PREPARERS = 2
"""Threads that compile grammars, and read adapters."""
_log = logging.getLogger(__name__)


class Served(Protocol):
    """What a worker has built; see `launch.build.Built`."""

    @property
    def device(self) -> str: ...
    @property
    def engine(self) -> Engine: ...
    @property
    def lifecycle(self) -> Lifecycle: ...


class UnitHost:
    """Serves a built unit to the front that is connected. Requests of a front that is gone are cancelled.

    Attributes:
      asked: the options that it was asked to serve, with the models that there are now.
    """

    def __init__(self, built: Served, asked: UnitOptions):
        self.asked, self._device = asked, built.device
        self._engine, self._lifecycle = built.engine, built.lifecycle
        self._front: Connection | None = None
        self._jobs: list[JobRecord] = []  # since the last turn with outputs; of the engine's thread
        self._held: dict[str, Any] = {}  # what was prepared of each unfinished request
        self._preparing: set[str] = set()
        self._lock = threading.Lock()  # of the two above
        self._preparers = ThreadPoolExecutor(_PREPARERS, thread_name_prefix="muxjax-prepare")
        self._told: RequestChecker | None = None  # facts that the front knows

    @property
    def healthy(self) -> bool:
        return self._engine.healthy

    def start(self) -> None:
        """Begins to turn."""
        self._engine.watch(self._jobs.append)
        self._engine.start(self._emit)

    def stop(self) -> None:
        """Ends every request and the engine."""
        self._engine.stop()
        self._preparers.shutdown(wait=False, cancel_futures=True)

    def attach(self, front: Connection) -> None:
        """Serves that front from now on."""
        self._front, self._told = front, None
        self.pulse()

    def detach(self) -> None:
        """The front is gone: nobody waits for its requests."""
        self._front = None
        with self._lock:
            unfinished = [*self._held]
            self._preparing.clear()
        for request_id in unfinished:
            self._engine.cancel(request_id)

    def pulse(self) -> None:
        """Tells the front how things are, and the facts if they have changed."""
        if self._told is not self._engine.checker:
            self._told = self._engine.checker
            self._send(_facts(self._device, self._told))
        states, programs = self._lifecycle.states(), self._lifecycle.programs()
        self._send(Pulse(self.healthy, self._engine.stats(), dict(programs), dict(states)))

    def obey(self, message: FromFront) -> None:
        """Does what the front asks; what takes long is done in another thread."""
        match message:
            case Submit():
                self._submit(arrived(message, time.monotonic()))
            case Cancel():
                self._cancel(message.request_id)
            case Load():
                self._change(message.call, lambda: self._load(message.options))
            case Remove():
                self._change(message.call, lambda: self._remove(message.model, message.timeout_s))
            case Sleep():
                self._change(message.call, lambda: self._lifecycle.sleep(message.model, timeout_s=message.timeout_s))
            case Wake():
                self._change(message.call, lambda: self._lifecycle.wake(message.model))

    def _submit(self, request: Request) -> None:
        with self._lock:
            self._preparing.add(request.id)
            self._held[request.id] = None
        if request.sampling.grammar or request.sampling.bad_words or request.adapter:
            self._preparers.submit(self._take, request)
        else:
            self._take(request)

    def _take(self, request: Request) -> None:
        try:
            held = self._engine.prepare(request)
            with self._lock:
                if request.id not in self._preparing:  # cancelled meanwhile
                    del self._held[request.id]
                    self._send(Turn(time.monotonic(), [_aborted(request.id)], []))
                    return
                self._preparing.remove(request.id)
                self._held[request.id] = held
                self._engine.submit(request, prepared=True)  # a cancel comes before or after, never in between
        except RequestError as error:
            self._refuse(refusal(request.id, error))
        except Exception:
            _log.exception("the request %s cannot be taken", request.id)
            self._refuse(Refused(request.id, "The server had an error.", 500))

    def _refuse(self, refused: Refused) -> None:
        with self._lock:
            self._preparing.discard(refused.request_id)
            self._held.pop(refused.request_id, None)
        self._send(refused)

    def _cancel(self, request_id: str) -> None:
        with self._lock:
            self._preparing.discard(request_id)
        self._engine.cancel(request_id)

    def _load(self, options: ModelOptions) -> ModelSpec:
        spec = self._lifecycle.load(options)
        self.asked = self.asked.plus(options)
        return spec

    def _remove(self, model: str, timeout_s: float) -> None:
        self._lifecycle.remove(model, timeout_s=timeout_s)
        self.asked = self.asked.without(model)

    def _change(self, call: int, change: Callable[[], Any]) -> None:
        def make() -> None:
            try:
                spec = change()
                answer = Changed(call, "", spec)
            except MuxError as error:
                answer = Changed(call, str(error))
            except Exception as error:
                _log.exception("a change of the models has failed")
                answer = Changed(call, f"it failed: {error}")
            self.pulse()  # the facts first
            self._send(answer)

        threading.Thread(target=make, name="muxjax-change", daemon=True).start()

    def _emit(self, outputs: Sequence[Output]) -> None:
        """In the engine's thread: all there is of a turn goes out in one message."""
        ended = [output.request_id for output in outputs if output.finish is not None]
        if ended:
            with self._lock:
                for request_id in ended:
                    self._held.pop(request_id, None)
        jobs = self._jobs.copy()
        self._jobs.clear()
        self._send(Turn(time.monotonic(), list(outputs), jobs))

    def _send(self, message: Message) -> None:
        front = self._front
        if front is not None:
            front.send(message)


def _aborted(request_id: str) -> Output:
    return Output(request_id, None, Finish.ABORT, time.monotonic())


def _facts(device: str, checker: RequestChecker) -> Facts:
    models = tuple(
        ModelFact(
            name=facts.config.name,
            layout=facts.config.layout,
            slots=facts.config.slots,
            max_tokens=facts.config.max_tokens,
            vocab=facts.config.vocab,
            pools=facts.config.pools,
            max_loras=facts.config.max_loras,
            status=facts.status,
            trouble=facts.trouble,
        )
        for facts in checker.models.values()
    )
    return Facts(device, checker.total_blocks, models)
