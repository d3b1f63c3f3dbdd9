"""A worker: a process that builds one unit and serves it to whichever front connects."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable

from muxjax import __version__
from muxjax.cluster.unit_host import Served, UnitHost
from muxjax.cluster.wire.connection import Connection
from muxjax.cluster.wire.door import Door, Guest
from muxjax.cluster.wire.frames import Address, TcpAddress, WireError, listen
from muxjax.cluster.wire.messages import PROTOCOL, Broken, FromFront, Hello, Message, Pulse, Report, Stop, Welcome
from muxjax.engine.options import UnitOptions
from muxjax.errors import MuxError

PULSE_S, SAY_S = 0.25, 5.0
ORPHAN_S = 600.0
"""Without a front for so long, a worker gives its devices back."""
_log = logging.getLogger(__name__)

Tell = Callable[[str], object]
Build = Callable[[UnitOptions, Tell, Tell], Served]
"""Of (options, report, doing): the first is told what there is, the other what is done from now on."""


def launched(options: UnitOptions, report: Tell, doing: Tell) -> Served:
    """The unit on the devices of this process."""
    from muxjax.launch.build import build  # imports JAX, which takes seconds

    return build(options, report=report, progress=False, doing=doing)


class Worker:
    """One unit, from the first front's words to the last one's.

    Args:
      build: makes the unit; a test's may be another than `launched`.
    """

    def __init__(self, build: Build = launched, *, orphan_s: float = ORPHAN_S):
        self._build, self._orphan_s = build, orphan_s
        self._options: UnitOptions | None = None  # that it serves, or is to
        self._host: UnitHost | None = None
        self._front: Connection | None = None
        self._broken: Broken | None = None
        self._lines: list[str] = []
        self._doing, self._began_s, self._said_s = "imports", 0.0, 0.0  # of the start
        self._lock = threading.Lock()  # of what a front that comes is told, and of what is built meanwhile
        self._over = threading.Event()

    def run(self, address: Address, on_listening: Callable[[socket.socket], object] = lambda listener: None) -> int:
        """Serves until a front stops it, or none comes; the status of the process."""
        with listen(address) as listener:
            on_listening(listener)
            door = Door(listener, address.key if isinstance(address, TcpAddress) else None, self._over)
            threading.Thread(target=self._pulse, name="muxjax-pulse", daemon=True).start()
            while guest := door.next_guest(self._orphan_s):
                with guest.stream:
                    self._serve(guest)
        if not self._over.is_set():
            _log.warning("no front has come for %g s: the worker ends", self._orphan_s)
        self._over.set()
        if self._host is not None:
            self._host.stop()
        return 1 if self._broken else 0

    def _serve(self, guest: Guest) -> None:
        front, hello = guest.front, guest.said
        if not isinstance(hello, Hello) or hello.protocol != PROTOCOL:
            _log.warning("a front of another version was refused")  # it will start a worker of its own
            front.send(Broken(f"the worker is muxjax {__version__} with protocol {PROTOCOL}", bad_input=False))
            front.close()
            return
        self._greet(front, hello)
        try:
            for message in guest.incoming:
                if isinstance(message, Stop):
                    self._over.set()
                    break
                self._obey(message)
        except WireError as error:
            _log.warning("a front was left: %s", error)
        finally:
            self._leave()

    def _greet(self, front: Connection, hello: Hello) -> None:
        with self._lock:
            self._front = front
            first = self._options is None
            self._options = self._options or hello.options
            serves = self._host.asked if self._host else self._options
            front.send(Welcome(serves))
            for line in self._lines:
                front.send(Report(line))
            if self._host is not None:
                self._host.attach(front)
        if first:
            threading.Thread(target=self._start, args=(hello.options,), name="muxjax-start", daemon=True).start()

    def _start(self, options: UnitOptions) -> None:
        self._began_s = self._said_s = time.monotonic()
        try:
            host = UnitHost(self._build(options, self._report, self._do), options)
            host.start()
        except Exception as error:  # the front is told, whatever it is
            if not isinstance(error, MuxError):
                _log.exception("the unit cannot start")
            self._break(Broken(str(error) or type(error).__name__, bad_input=isinstance(error, MuxError)))
            return
        with self._lock:
            self._host = host
            if self._front is not None:
                host.attach(self._front)

    def _break(self, broken: Broken) -> None:
        self._broken = broken
        self._tell(broken)
        self._over.set()  # whether a front is there or not
        with self._lock:
            if self._front is not None:
                self._front.close()

    def _obey(self, message: FromFront) -> None:
        if self._host is not None:
            self._host.obey(message)

    def _leave(self) -> None:
        with self._lock:
            if self._front is not None:
                self._front.close()
            self._front = None
            if self._host is not None:
                self._host.detach()

    def _report(self, line: str) -> None:
        self._lines.append(line)
        self._tell(Report(line))

    def _do(self, what: str) -> None:
        before, self._doing = self._doing, what
        if what.partition(":")[0] != before.partition(":")[0]:
            self._tell(Report(f"starting: {what}"))

    def _say_what_is_done(self) -> None:
        """Now and then in a start, which may take minutes."""
        now_s = time.monotonic()
        if self._began_s and now_s - self._said_s >= SAY_S:
            self._said_s = now_s
            self._tell(Report(f"{self._doing}, after {now_s - self._began_s:.0f} s"))

    def _tell(self, message: Message) -> None:
        front = self._front
        if front is not None:
            front.send(message)

    def _pulse(self) -> None:
        while not self._over.wait(PULSE_S):
            host = self._host
            if host is None:
                self._tell(Pulse(True, None, {}, {}))
                self._say_what_is_done()
                continue
            host.pulse()
            if not host.healthy and self._front is None:
                _log.error("the engine has failed, and no front is there to start another")
                time.sleep(PULSE_S)
                os._exit(1)
