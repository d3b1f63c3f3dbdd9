"""A service behind HTTP until a signal ends it."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from muxjax.errors import ConfigError
from muxjax.server.config import MOST_HEADER_BYTES, HttpOptions
from muxjax.server.http.app import make_app
from muxjax.server.http.auth import Surface
from muxjax.server.service import Service

_log = logging.getLogger(__name__)
_LAST_WRITES_S = 2


@contextlib.asynccontextmanager
async def listening(service: Service, http: HttpOptions) -> AsyncIterator[str]:
    """The service running behind HTTP; yields the address of its API.

    Raises:
      ConfigError: a port is taken.
    """
    apart = http.admin_port is not None
    async with service.running(), contextlib.AsyncExitStack() as runners:
        if apart:
            admin = await runners.enter_async_context(_serving(service, http, Surface.ADMIN))
            _log.info("metrics and administration are at %s", await _listen(admin, http.admin_host, http.admin_port or 0))
        public = await runners.enter_async_context(_serving(service, http, Surface.PUBLIC if apart else Surface.ALL))
        address = await _listen(public, http.host, http.port)
        try:
            yield f"{address}/v1"
        finally:
            await service.abort()


@contextlib.asynccontextmanager
async def _serving(service: Service, http: HttpOptions, surface: Surface) -> AsyncIterator[web.AppRunner]:
    runner = web.AppRunner(
        make_app(service, http, surface),
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=_LAST_WRITES_S,
        keepalive_timeout=http.keep_alive_timeout_s,
        max_line_size=MOST_HEADER_BYTES,
        max_field_size=MOST_HEADER_BYTES,
    )
    await runner.setup()
    try:
        yield runner
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> str:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror or error}", field="port") from error
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{runner.addresses[0][1]}"


async def serve(service: Service, http: HttpOptions, *, report: Callable[[str], Any] = print) -> bool:
    """Serves until a signal, having told the address; False if the engine failed first, and the options have the server end then."""
    async with listening(service, http) as address:
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
