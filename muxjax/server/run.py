"""A service behind HTTP until a signal ends it."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from muxjax.engine.options import UnitOptions
from muxjax.errors import ConfigError
from muxjax.server.app import make_app
from muxjax.server.catalog import Catalog, ModelFiles
from muxjax.server.config import HttpOptions
from muxjax.server.service import Service

_LAST_WRITES_S = 2


def build_service(options: UnitOptions, *, report: Callable[[str], Any] = print, progress: bool = True) -> Service:
    """Models loaded and compiled, not yet started.

    Raises:
      ConfigError, CheckpointError: a model cannot be served.
    """
    files = [ModelFiles.read(model) for model in options.models]
    from muxjax.engine.build import build  # imports JAX, which takes seconds

    built = build(options, report=report, progress=progress)
    now = int(time.time())
    named = [(file.options.name, file) for file in files]
    models = [file.served(built.models[name], max_model_len=built.max_model_len[name], created=now) for name, file in named]
    return Service(built.engine, Catalog(models))


@contextlib.asynccontextmanager
async def listening(service: Service, http: HttpOptions) -> AsyncIterator[str]:
    """The service running behind HTTP; yields the address of its API.

    Raises:
      ConfigError: the port is taken.
    """
    app = make_app(service, max_body_bytes=http.max_body_bytes)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=_LAST_WRITES_S)
    async with service.running():
        await runner.setup()
        try:
            yield await _listen(runner, http)
        finally:
            await service.abort()
            await runner.cleanup()


async def _listen(runner: web.AppRunner, http: HttpOptions) -> str:
    try:
        await web.TCPSite(runner, http.host, http.port).start()
    except OSError as error:
        raise ConfigError(f"cannot listen on {http.host} port {http.port}: {error.strerror or error}", field="port") from error
    port = runner.addresses[0][1]
    host = f"[{http.host}]" if ":" in http.host else http.host
    return f"http://{host}:{port}/v1"


async def serve(service: Service, http: HttpOptions, *, report: Callable[[str], Any] = print) -> None:
    """Serves until a signal, having told the address."""
    async with listening(service, http) as address:
        report(address)
        await until_signal(service, http.shutdown_timeout_s)


async def until_signal(service: Service, timeout_s: float) -> None:
    """Waits for SIGTERM or SIGINT, then lets requests end for so long; a second signal ends them at once."""
    first, second = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: (second if first.is_set() else first).set())
    await first.wait()
    await drain(service, timeout_s, hurry=second)


async def drain(service: Service, timeout_s: float, *, hurry: asyncio.Event) -> None:
    """Waits until all requests have ended, for at most so long, or until there is hurry; then ends the rest."""
    draining = asyncio.create_task(service.drain(timeout_s))
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait((draining, hurried), return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    await service.abort()
    await draining
