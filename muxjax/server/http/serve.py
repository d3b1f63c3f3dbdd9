"""A service behind HTTP until a signal ends it."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from aiohttp import web

from muxjax.errors import ConfigError
from muxjax.server.config import MOST_HEADER_BYTES, HttpOptions
from muxjax.server.http.app import make_app
from muxjax.server.http.auth import Surface
from muxjax.server.net import open_files
from muxjax.server.net.accept import Listener
from muxjax.server.net.sockets import Sockets, bound, url
from muxjax.server.service import Service
from muxjax.server.telemetry import wire_log

_log = logging.getLogger(__name__)
_LAST_WRITES_S = 2
_ADMIN_PLACES = 32


@contextlib.asynccontextmanager
async def listening(service: Service, http: HttpOptions, sockets: Sockets | None = None) -> AsyncIterator[str]:
    """The service running behind HTTP; yields the address of its API.

    Args:
      sockets: those that were bound for these options; None binds them now.
    Raises:
      ConfigError: a port is taken.
    """
    async with service.running(), contextlib.AsyncExitStack() as stack:
        sockets = sockets or stack.enter_context(bound(http))
        places = open_files.connections(http.max_connections)
        own = min(_ADMIN_PLACES, places // 4) if sockets.admin else 0
        if sockets.admin:
            await stack.enter_async_context(_serving(service, http, Surface.ADMIN, sockets.admin, max(own, 1)))
            _log.info("metrics and administration are at %s", url(sockets.admin, http.admin_host))
        surface = Surface.PUBLIC if sockets.admin else Surface.ALL
        await stack.enter_async_context(_serving(service, http, surface, sockets.public, max(places - own, 1)))
        try:
            yield f"{url(sockets.public, http.host)}/v1"
        finally:
            await service.abort()


@contextlib.asynccontextmanager
async def _serving(
    service: Service, http: HttpOptions, surface: Surface, sockets: Sequence[socket.socket], places: int
) -> AsyncIterator[None]:
    app, listener = make_app(service, http, surface), Listener(places)
    app.on_response_prepare.append(listener.thin_out)
    runner = web.AppRunner(
        app,
        handler_cancellation=True,
        access_log=None,
        logger=wire_log.LOGGER,
        shutdown_timeout=_LAST_WRITES_S,
        keepalive_timeout=http.keep_alive_timeout_s,
        max_line_size=MOST_HEADER_BYTES,
        max_field_size=MOST_HEADER_BYTES,
    )
    await runner.setup()
    assert runner.server is not None
    try:
        listener.start(runner.server, sockets)
        yield
    except OSError as error:
        raise ConfigError(f"cannot listen: {error.strerror or error}", field="port") from error
    finally:
        listener.stop()
        await runner.cleanup()


async def serve(service: Service, http: HttpOptions, sockets: Sockets | None = None, *, report: Callable[[str], Any] = print) -> bool:
    """Serves until a signal, having told the address; False if the engine failed first, and the options have the server end then."""
    async with listening(service, http, sockets) as address:
        _log.info("listening at %s", address)
        with contextlib.suppress(OSError):  # a server whose standard output is full or gone serves all the same
            report(address)
        return await until_signal(service, http.shutdown_timeout_s, stay=http.on_failure == "stay")


async def until_signal(service: Service, timeout_s: float, *, stay: bool = True) -> bool:
    """Waits for SIGTERM or SIGINT, then lets requests end for so long; a second signal ends them at once.

    Returns:
      False, without a signal, when the engine has failed; never if it is to `stay`.
    """
    first, second = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: (second if first.is_set() else first).set())
    signalled = asyncio.create_task(first.wait())
    failed = asyncio.create_task(service.failure())
    await asyncio.wait((signalled,) if stay else (signalled, failed), return_when=asyncio.FIRST_COMPLETED)
    failed.cancel()
    if not first.is_set():
        signalled.cancel()
        return False
    _log.info("stopping: requests that run have %g s to end; a second signal ends them at once", timeout_s)
    await drain(service, timeout_s, hurry=second)
    return True


async def drain(service: Service, timeout_s: float, *, hurry: asyncio.Event) -> None:
    """Waits until all requests have ended, for at most so long, or until there is hurry; then ends the rest."""
    draining = asyncio.create_task(service.drain(timeout_s))
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait((draining, hurried), return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    await service.abort()
    await draining
