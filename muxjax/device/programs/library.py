"""Programs of a unit's devices: found in the store, or else compiled, by other processes where that can be."""

import atexit
import functools
import logging
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any, TypeVar

import jax

from muxjax.device.programs import target, tuning
from muxjax.device.programs.compiler import Compiler
from muxjax.device.programs.environment import environment
from muxjax.device.programs.pool import CompileWorkers
from muxjax.device.programs.sources import Source, program_name, untuned
from muxjax.device.programs.store import ProgramStore, without_jax_cache
from muxjax.device.programs.worker import Setup
from muxjax.models.sharding import Devices

_log = logging.getLogger(__name__)
K = TypeVar("K")

NICENESS = 5
"""Of compiling processes: what serves goes first."""
_CORES_LEFT = 2
_LOOK_S = 0.25
_WORKERS_ON_CPU = 1
"""Steps are computed on all cores, and compiling takes one from them."""
_AT_ONCE_HERE = 8
"""Programs compiled at a time in this process: XLA makes the kernels of one on few threads."""


class _Manner(Enum):
    """Manner of making a program: with nothing to disturb; beside steps, for somebody who waits; behind, for nobody."""

    ALONE = auto()
    BESIDE = auto()
    BEHIND = auto()


_Key = tuple[Source, Devices]


@dataclass(slots=True)
class _Order:
    """A program that is being made, and how many wait for it."""

    future: Future[jax.stages.Compiled]
    askers: int = 0


class ProgramLibrary:
    """Hands out programs by their sources; a source that is asked for twice is compiled once.

    Args:
      compiler: of this process, for what no worker can do.
      make_workers: makes those that compile into the same store, when the first program is missing; None where the devices cannot
        be described.
      always_by_workers: else only what is made beside steps is, and the rest in this process, which needs no other to begin.
      at_once: programs that are looked for, or compiled, at a time.
    """

    def __init__(
        self,
        store: ProgramStore,
        compiler: Compiler,
        make_workers: Callable[[], CompileWorkers | None],
        *,
        at_once: int,
        always_by_workers: bool = True,
    ):
        self._store, self._compiler, self._make_workers = store, compiler, make_workers
        self._always_by_workers = always_by_workers
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="muxjax-programs")
        self._threads_behind = ThreadPoolExecutor(at_once, thread_name_prefix="muxjax-programs-behind")
        self._go_on = threading.Event()  # of what nobody waits for
        self._go_on.set()
        self._closed = False
        self._lock = threading.RLock()  # a program may be there before its future is looked at
        self._orders: dict[_Key, _Order] = {}
        self._loaded: weakref.WeakValueDictionary[_Key, jax.stages.Compiled] = weakref.WeakValueDictionary()
        self._making: dict[str, Future[str]] = {}  # what workers compile at this moment

    @classmethod
    def open(cls, devices: Devices, folder: str) -> "ProgramLibrary":
        """The library of those devices, and of the same as other lanes see them, over a folder; over one that goes with this process where
        that is ""."""
        device = devices.each[0]
        on_gpu, made_for = device.platform == "gpu", environment(device.device_kind)
        place = Path(folder).expanduser() if folder else (_passing_folder() if on_gpu else None)
        if place:
            without_jax_cache()
        choices = tuning.folder(place, device.device_kind) if on_gpu and place else None
        at_once = max(1, (os.cpu_count() or 1) - _CORES_LEFT) if on_gpu else min(os.cpu_count() or 1, _AT_ONCE_HERE)

        def make_workers() -> CompileWorkers | None:
            chip = target.attached(device) if on_gpu else None
            if not place or (on_gpu and not chip):
                return None
            setup = Setup(target=chip, devices=devices.tp, folder=place, environment=made_for, tuning=choices, niceness=NICENESS)
            return CompileWorkers(setup, at_once if on_gpu else _WORKERS_ON_CPU)

        compiler = Compiler(devices=devices, tuning=choices)
        return cls(ProgramStore(place, made_for), compiler, make_workers, at_once=at_once, always_by_workers=on_gpu)

    def find(
        self, sources: Iterable[Source], devices: Devices | None = None, *, beside: bool = False
    ) -> Iterator[tuple[Source, jax.stages.Compiled]]:
        """Each of the sources with its program, as they are there, several at a time; all are asked for at once.

        Args:
          devices: of a lane; None for those that the library was opened for.
          beside: steps run meanwhile, which are to notice little of it: workers compile what is missing.
        Raises:
          JaxRuntimeError: one of them cannot be compiled.
        """
        manner, devices = _Manner.BESIDE if beside else _Manner.ALONE, devices or self._compiler.devices
        futures = {self._ask((source, devices), manner): source for source in sources}
        return ((futures[future], future.result()) for future in as_completed(futures))

    def complete(
        self,
        needs: Mapping[K, Sequence[Source]],
        on_failure: Callable[[K, Exception], Any],
        stopped: threading.Event,
        devices_of: Callable[[K], Devices] | None = None,
    ) -> Iterator[tuple[K, dict[Source, jax.stages.Compiled]]]:
        """Yields each key with all that it needs when that is there; asks in the order of the keys. Ends early when it is stopped.

        Args:
          devices_of: those of the lane that a key's programs are for.
          on_failure: is told of a key that needs what cannot be made, and why.
        """
        lane = {key: devices_of(key) if devices_of else self._compiler.devices for key in needs}
        waiting = {key: {source: self._ask((source, lane[key]), _Manner.BEHIND) for source in sources} for key, sources in needs.items()}
        try:
            while waiting and not stopped.is_set():
                wait([future for own in waiting.values() for future in own.values() if not future.done()], _LOOK_S, FIRST_COMPLETED)
                for key in [key for key, own in waiting.items() if all(future.done() for future in own.values())]:
                    own = waiting.pop(key)
                    try:
                        programs = {source: future.result() for source, future in own.items()}
                    except CancelledError:  # the library is closed
                        return
                    except Exception as error:  # of the compiler, whatever it is
                        on_failure(key, error)
                    else:
                        yield key, programs
        finally:
            for key, own in waiting.items():
                for source, future in own.items():
                    self._withdraw((source, lane[key]), future)
            if workers := self._begun_workers:
                workers.retire()

    def pause(self) -> None:
        """Has what `complete` asked for wait where it is, until `resume`."""
        self._go_on.clear()
        if workers := self._begun_workers:
            workers.pause()

    def resume(self) -> None:
        """Lets it go on."""
        self._go_on.set()
        if workers := self._begun_workers:
            workers.resume()

    def close(self) -> None:
        """Gives up what is not there yet; waits for what is compiled in this process, which nothing can interrupt."""
        with self._lock:
            self._closed, workers = True, self._begun_workers
        self._go_on.set()
        if workers:
            workers.close()
        for threads in (self._threads, self._threads_behind):
            threads.shutdown(wait=True, cancel_futures=True)

    @property
    def _begun_workers(self) -> CompileWorkers | None:
        return self.__dict__.get("_workers")

    def _ask(self, key: _Key, manner: "_Manner") -> Future[jax.stages.Compiled]:
        with self._lock:
            order = self._orders.get(key)
            if order is None:
                threads = self._threads_behind if manner is _Manner.BEHIND else self._threads
                order = self._orders[key] = _Order(threads.submit(self._get, key, manner))
                order.future.add_done_callback(lambda _: self._forget(key))
            order.askers += 1
            return order.future

    def _withdraw(self, key: _Key, future: Future[jax.stages.Compiled]) -> None:
        """Cancels what has not begun, unless others wait for it."""
        with self._lock:
            order = self._orders.get(key)
            if order and order.future is future:
                order.askers -= 1
                if not order.askers:
                    future.cancel()

    def _forget(self, key: _Key) -> None:
        with self._lock:
            self._orders.pop(key, None)

    def _get(self, key: _Key, manner: "_Manner") -> jax.stages.Compiled:
        if manner is _Manner.BEHIND:
            self._go_on.wait()
        program = self._loaded.get(key) or self._kept(key)
        if program is None and (manner is not _Manner.ALONE or self._always_by_workers):
            program = self._from_worker(key)
        program = program or self._compiled(key)
        self._loaded[key] = program
        return program

    def _kept(self, key: _Key) -> jax.stages.Compiled | None:
        source, devices = key
        names = [program_name(each, devices.places) for each in dict.fromkeys((source, untuned(source)))]
        programs = (self._store.load(name, devices.each) for name in names)
        return next((program for program in programs if program is not None), None)

    @functools.cached_property
    def _workers(self) -> CompileWorkers | None:
        return self._make_workers()

    def _from_worker(self, key: _Key) -> jax.stages.Compiled | None:
        source, devices = key
        name = program_name(source, devices.places)
        with self._lock:
            workers = None if self._closed else self._workers
            if workers is None:
                return None
            if name not in self._making:  # what several lanes need is made once
                self._making[name] = workers.compile(source, devices.places)
            making = self._making[name]
        try:
            trouble = making.result()
        finally:
            with self._lock:
                self._making.pop(name, None)
        program = self._kept(key)
        if program is None and not self._closed:
            _log.warning("a program is compiled in the serving process: %s", trouble or "what a worker made could not be loaded")
        return program

    def _compiled(self, key: _Key) -> jax.stages.Compiled:
        if self._closed:
            raise CancelledError("the library of programs is closed")
        source, devices = key
        made_of, program = replace(self._compiler, devices=devices).compile(source)
        self._store.keep(program_name(made_of, devices.places), program)
        return program


def _passing_folder() -> Path:
    """A folder that is deleted when the process ends."""
    folder = tempfile.mkdtemp(prefix="muxjax-programs-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
