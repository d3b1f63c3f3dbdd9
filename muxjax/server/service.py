"""Requests into an engine, and each one's text out of it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from muxjax.engine.stats import UnitStats
from muxjax.errors import RequestError
from muxjax.server.catalog import Catalog
from muxjax.server.metrics import Metrics, RequestMeter
from muxjax.server.schema import Generation
from muxjax.server.text import Detokenizer, TextStream
from muxjax.types import Finish, Output, Request

_CHECK_EVERY_S = 0.5


class Engine(Protocol):
    """What the server asks of an engine; see `engine.engine.Engine`."""

    healthy: bool

    def submit(self, request: Request) -> None: ...
    def cancel(self, request_id: str) -> None: ...
    def start(self, on_outputs: Callable[[list[Output]], None]) -> None: ...
    def drain(self, timeout_s: float) -> bool: ...
    def stop(self) -> None: ...
    def stats(self) -> UnitStats: ...


class Delta(NamedTuple):
    """One step of one choice.

    Args:
      text: what the step adds; "" while it is held back.
      tokens: new tokens, the one that ended the choice included.
      stop_reason: the client's stop string or stop token that ended it.
    """

    index: int
    text: str
    tokens: tuple[int, ...]
    finish: Finish | None
    stop_reason: str | int | None


class Service:
    """Models on an engine for the tasks of one event loop."""

    def __init__(self, engine: Engine, catalog: Catalog):
        self.catalog = catalog
        self.metrics = Metrics(engine.stats)
        self._engine = engine
        self._queues: dict[str, asyncio.Queue[Output]] = {}
        self._draining = False

    @property
    def ready(self) -> bool:
        """New requests are taken."""
        return self._engine.healthy and not self._draining

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The engine started on entry, stopped on exit."""
        loop = asyncio.get_running_loop()

        def tell(outputs: list[Output]) -> None:
            loop.call_soon_threadsafe(self._deliver, outputs)

        self._engine.start(tell)
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.to_thread(self._engine.stop)

    async def drain(self, timeout_s: float) -> bool:
        """Takes no more requests and waits for those there are; True if all ended in time."""
        self._draining = True
        return await asyncio.to_thread(self._engine.drain, timeout_s)

    async def abort(self) -> None:
        """Ends every request now."""
        self._draining = True
        await asyncio.to_thread(self._engine.stop)
        self._end_all()

    @contextlib.contextmanager
    def admit(self, generation: Generation) -> Iterator[AsyncIterator[Delta]]:
        """Hands a generation to the engine at once; what is unfinished on exit is cancelled.

        Raises:
          RequestError: the engine cannot serve it, now (503) or ever.
        """
        if not self.ready:
            raise RequestError("The server takes no more requests.", code="unavailable", status=503)
        queue: asyncio.Queue[Output] = asyncio.Queue()
        try:
            for request in generation.requests:
                self._queues[request.id] = queue
                self._engine.submit(request)
            yield self._deltas(generation, queue)
        finally:
            for request in generation.requests:
                self._release(request.id, cancel=True)

    async def _deltas(self, generation: Generation, queue: asyncio.Queue[Output]) -> AsyncIterator[Delta]:
        """All choices' deltas in the order of their making.

        Raises:
          RequestError: the engine was stopped, or has died.
        """
        live = {request.id: _Choice(generation, index, self.metrics) for index, request in enumerate(generation.requests)}
        while live:
            output = await queue.get()
            if output.request_id not in live:
                continue
            delta = live[output.request_id].advance(output)
            if delta.finish is not None:
                del live[output.request_id]
                self._release(output.request_id, cancel=output.finish is None)
            yield delta

    def _release(self, request_id: str, *, cancel: bool) -> None:
        if self._queues.pop(request_id, None) is not None and cancel:
            self._engine.cancel(request_id)

    def _deliver(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            queue = self._queues.get(output.request_id)
            if queue is not None:
                queue.put_nowait(output)

    async def _watch(self) -> None:
        """Wakes whoever waits for an engine that has died."""
        while self._engine.healthy:
            await asyncio.sleep(_CHECK_EVERY_S)
        self._end_all()

    def _end_all(self) -> None:
        """Nobody waits for an engine that says nothing more."""
        now_s = time.monotonic()
        self._deliver([Output(request_id, None, Finish.ABORT, now_s) for request_id in self._queues])


class _Choice:
    """One request's text in the making."""

    def __init__(self, generation: Generation, index: int, metrics: Metrics):
        request = generation.requests[index]
        self._index = index
        self._own_stops = generation.stop_token_ids
        self._text = TextStream(Detokenizer(generation.model.text.decode, request.prompt), generation.stop)
        self._meter: RequestMeter = metrics.request(request)

    def advance(self, output: Output) -> Delta:
        """Raises RequestError: an abort, which only a server that stops does."""
        if output.finish is Finish.ABORT:
            self._meter.end(Finish.ABORT, output.at_s)
            raise RequestError("The server stopped before the answer was complete.", code="aborted", status=503)
        tokens = () if output.token is None else (output.token,)
        if tokens:
            self._meter.token(output.at_s)
        text = self._grow(output)
        finish = Finish.STOP if self._text.stopped is not None else output.finish
        if finish is not None:
            self._meter.end(finish, output.at_s)
        return Delta(self._index, text, tokens, finish, self._reason(output))

    def _grow(self, output: Output) -> str:
        """A token that ends the request has no text."""
        text = "" if output.token is None or output.finish is Finish.STOP else self._text.feed(output.token)
        ends = output.finish is not None and self._text.stopped is None
        return text + self._text.flush() if ends else text

    def _reason(self, output: Output) -> str | int | None:
        if self._text.stopped is not None:
            return self._text.stopped
        return output.token if output.finish is Finish.STOP and output.token in self._own_stops else None
