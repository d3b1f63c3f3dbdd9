"""A worker's door: whoever connects says beside others who it is, and those who may come in do so one at a time."""

import contextlib
import logging
import queue
import socket
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from muxjax.cluster.wire.connection import Connection
from muxjax.cluster.wire.frames import WireError, challenge
from muxjax.cluster.wire.messages import FromFront

MOST_UNKNOWN = 16
"""Connections that have not said yet who they are; of more, the first is cut: who has the key needs no longer than the way to and fro."""
_GREET_S, _POLL_S = 10.0, 0.05
_log = logging.getLogger(__name__)


class Guest(NamedTuple):
    """Who has shown the key, where there is one.

    Args:
      said: its first message; None if there was none.
      incoming: those that follow.
    """

    stream: socket.socket
    front: Connection
    said: FromFront | None
    incoming: Iterator[FromFront]


class Door:
    """Opens for whoever has the key.

    Args:
      key: that a guest proves to have; None where nobody else can connect.
      closed: nobody is waited for any more.
    """

    def __init__(self, listener: socket.socket, key: bytes | None, closed: threading.Event):
        listener.settimeout(_POLL_S)
        self._listener, self._key, self._closed = listener, key, closed
        self._unknown: list[socket.socket] = []
        self._lock = threading.Lock()  # of those
        self._guests: queue.SimpleQueue[Guest] = queue.SimpleQueue()

    def next_guest(self, timeout_s: float) -> Guest | None:
        """The next one, whose stream the caller closes; None if nobody has come for so long, or the door is closed."""
        until_s = time.monotonic() + timeout_s
        while time.monotonic() < until_s and not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                stream, _ = self._listener.accept()
                self._ask(stream)
            with contextlib.suppress(queue.Empty):
                return self._guests.get_nowait()
        return None

    def _ask(self, stream: socket.socket) -> None:
        with self._lock:
            self._unknown.append(stream)
            for first in self._unknown[:-MOST_UNKNOWN]:
                with contextlib.suppress(OSError):
                    first.shutdown(socket.SHUT_RDWR)  # its thread notices
        threading.Thread(target=self._greet, args=(stream,), name="muxjax-greet", daemon=True).start()

    def _greet(self, stream: socket.socket) -> None:
        try:
            guest = _greeted(stream, self._key)
        except (WireError, OSError) as error:
            _log.warning("a connection was refused: %s", error)
            stream.close()
        else:
            self._guests.put(guest)
        finally:
            with self._lock:
                self._unknown.remove(stream)


def _greeted(stream: socket.socket, key: bytes | None) -> Guest:
    """Raises WireError, OSError: it has no key, or says nothing."""
    stream.settimeout(_GREET_S)
    if key is not None:
        challenge(stream, key)
    front = Connection(stream)
    incoming = front.incoming()
    said = next(incoming, None)
    stream.settimeout(None)
    return Guest(stream, front, said, incoming)
