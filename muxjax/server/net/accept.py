"""Connections, accepted while there are places for them; others wait in the kernel's queue, and are not lost (back-pressure)."""

import asyncio
import logging
import socket
import time
from collections.abc import Sequence

from aiohttp import web

from muxjax.server.net.sockets import listen

_AT_ONCE = 64
_LOOK_AGAIN_S = 0.05
_TRY_AGAIN_S = 1.0
_TELL_AGAIN_S = 60.0
_log = logging.getLogger(__name__)


class Listener:
    """Accepts a server's connections, at most so many at a time.

    asyncio would accept until the process has no file left: then nothing else that needs one can go on either.

    While somebody waits, or three quarters of the places are taken, connections are closed with their answer in place of being kept
    alive, so that whoever comes finds a place.
    """

    def __init__(self, places: int):
        self._places = places
        self._server: web.Server | None = None
        self._sockets: Sequence[socket.socket] = ()
        self._coming: set[asyncio.Task] = set()
        self._later: asyncio.TimerHandle | None = None
        self._waits = False
        self._told_s = -_TELL_AGAIN_S

    def start(self, server: web.Server, sockets: Sequence[socket.socket]) -> None:
        """Raises OSError: a socket cannot listen."""
        self._server, self._sockets = server, sockets
        for one in sockets:
            listen(one)
        self._resume()

    def stop(self) -> None:
        """Accepts no more; those that wait are refused when the sockets are closed."""
        if self._later is not None:
            self._later.cancel()
        for one in self._sockets:
            asyncio.get_running_loop().remove_reader(one)

    async def thin_out(self, request: web.Request, response: web.StreamResponse) -> None:
        """Signal of an answer that is about to begin."""
        if self._waits or self._free() <= self._places // 4:
            response.force_close()
            response.headers["Connection"] = "close"

    def _resume(self) -> None:
        self._waits = False
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            loop.add_reader(one, self._accept, one)

    def _pause(self, seconds: float, why: str) -> None:
        self._waits = True
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            loop.remove_reader(one)
        self._later = loop.call_later(seconds, self._resume)
        if time.monotonic() - self._told_s >= _TELL_AGAIN_S:
            self._told_s = time.monotonic()
            _log.warning("connections wait: %s", why)

    def _accept(self, listening: socket.socket) -> None:
        free = self._free()
        if free <= 0:
            self._pause(_LOOK_AGAIN_S, f"all {self._places} places for them are taken (max_connections, ulimit -n)")
            return
        for _ in range(min(free, _AT_ONCE)):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(_TRY_AGAIN_S, error.strerror or str(error))
                return
            self._begin(connection)

    def _free(self) -> int:
        assert self._server is not None
        return self._places - len(self._server.connections) - len(self._coming)

    def _begin(self, connection: socket.socket) -> None:
        assert self._server is not None
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(self._server, connection))
        self._coming.add(task)

        def begun(task: asyncio.Task) -> None:
            self._coming.discard(task)
            if task.cancelled() or task.exception() is not None:
                connection.close()

        task.add_done_callback(begun)
