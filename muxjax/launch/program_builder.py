"""Programs that are made while the engine serves: a thread that asks for them, and hands each to the engine between two turns."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from muxjax.engine.device_control import DeviceControl
from muxjax.engine.engine import Engine
from muxjax.errors import RequestError
from muxjax.launch.build_pace import BuildPacer

_log = logging.getLogger(__name__)
END_S = 10.0
"""In which what is being built must end, of a builder that is closed."""


class ProgramBuilder:
    """Has the devices make what programs are missing, until all are there; after every change of models or arena it looks again."""

    def __init__(self, engine: Engine, devices: DeviceControl):
        self._engine, self._devices = engine, devices
        self._pacer = BuildPacer(devices)
        engine.watch(self._pacer.note)
        self._wanted = threading.Event()  # there may be something to do
        self._closed = threading.Event()
        self._building = threading.Lock()
        self._resting = threading.Event()  # the thread is not among programs of the devices
        self._resting.set()
        self._thread = threading.Thread(target=self._run, name="muxjax-builder", daemon=True)

    def start(self) -> None:
        self._wanted.set()
        self._thread.start()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is built inside the block, which may change models and arena."""
        self._wanted.clear()
        self._devices.stop_building()
        try:
            with self._building:
                yield
        finally:
            self._wanted.set()

    def close(self) -> None:
        """Builds nothing more, and waits for what has begun: a thread that comes back from JAX while Python ends takes the process down."""
        self._closed.set()
        self._devices.close()
        self._wanted.set()
        if not self._resting.wait(END_S):
            _log.warning("programs that are being built have not ended within %g s", END_S)

    def _run(self) -> None:
        while self._wanted.wait() and not self._closed.is_set():
            with self._building:
                self._resting.clear()
                if self._wanted.is_set() and not self._closed.is_set():
                    with self._pacer.watching():
                        self._build()
                self._resting.set()

    def _build(self) -> None:
        try:
            for model, shape in self._devices.build():
                self._engine.do(lambda model=model, shape=shape: self._add(model, shape))()
                if not self._wanted.is_set() or self._closed.is_set():
                    return
        except RequestError:  # the engine has stopped
            self._closed.set()
        except Exception:  # the larger steps serve on
            if not self._closed.is_set():
                _log.exception("no further programs are built")
        self._wanted.clear()

    def _add(self, model: str, shape: int) -> Callable[[], object]:
        """In the engine's thread; what waits until steps may have the shape without delay."""
        self._devices.add_shape(model, shape)
        return self._devices.warm(model, shape) if shape in self._devices.ready(model) else lambda: None
