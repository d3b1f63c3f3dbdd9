"""An event loop in a thread of its own, for callers that have none."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from muxjax.server.config import HttpOptions
from muxjax.server.http.serve import listening
from muxjax.server.service import Service

T = TypeVar("T")


class BackgroundLoop:
    """Runs coroutines from any thread until it is closed."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="muxjax-loop", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result; an interrupt cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    @contextlib.contextmanager
    def within(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """An asynchronous context, entered and left on the loop."""
        value = self.run(manager.__aenter__())
        try:
            yield value
        finally:
            self.run(manager.__aexit__(None, None, None))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.contextmanager
def in_background(service: Service, http: HttpOptions) -> Iterator[str]:
    """The service behind HTTP beside the caller's own work; yields the address of its API."""
    with contextlib.closing(BackgroundLoop()) as loop, loop.within(listening(service, http)) as address:
        yield address
