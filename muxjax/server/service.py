"""Requests into an engine, and each one's text out of it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from muxjax.engine.job_records import JobRecord, OnJob
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.engine.stats import UnitStats
from muxjax.errors import RequestError
from muxjax.server.admission.admission import Admission, Admitted
from muxjax.server.admission.tenants import Tenant
from muxjax.server.catalog import Catalog
from muxjax.server.fleet import Fleet, Lifecycle
from muxjax.server.generation import Generation
from muxjax.server.telemetry.metrics import Metrics, RequestMeter
from muxjax.server.telemetry.recent import Live
from muxjax.server.telemetry.watcher import RequestRecord, Watcher
from muxjax.server.text.detokenizer import Detokenizer, TextStream
from muxjax.types import Finish, Logprobs, Output, Request

_CHECK_EVERY_S = 0.5


class Engine(Protocol):
    """What the server asks of an engine; see `engine.engine.Engine`."""

    @property
    def healthy(self) -> bool: ...
    def prepare(self, request: Request) -> None: ...
    def submit(self, request: Request) -> None: ...
    def cancel(self, request_id: str) -> None: ...
    def watch(self, on_job: OnJob) -> None: ...
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
      logprobs, prompt_logprobs, cached_tokens: see `types.Output`.
    """

    index: int
    text: str
    tokens: tuple[int, ...]
    finish: Finish | None
    stop_reason: str | int | None
    logprobs: Logprobs | None = None
    prompt_logprobs: tuple[Logprobs, ...] | None = None
    cached_tokens: int = 0


class Deltas:
    """All choices' deltas in the order of their making, to be iterated over once."""

    def __init__(self, made: AsyncIterator[Delta], queue: "asyncio.Queue[_News]"):
        self._made, self._queue = made, queue

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self._made

    @property
    def behind(self) -> bool:
        """The next one is there already: whoever writes may take it along."""
        return not self._queue.empty()


class _News(NamedTuple):
    choice: "_Choice"
    output: Output


class Service:
    """Models on an engine for the tasks of one event loop.

    Args:
      options: that the engine was built of; None where it was not built of any.
      hot: what changes its models; None where they stay as they are.
    """

    def __init__(self, engine: Engine, catalog: Catalog, options: UnitOptions | None = None, lifecycle: Lifecycle | None = None):
        self.catalog = catalog
        self.fleet = Fleet(lifecycle, catalog, options) if lifecycle and options else None
        self._options = options
        self.metrics = Metrics(engine.stats)
        self.admission = Admission(options, self.model_options, on_tokens=self._count_tokens)
        self.live = Live()
        self.watchers: list[Watcher] = [self.live]  # to be added to before it runs
        self._engine = engine
        self._choices: dict[str, _Choice] = {}  # unfinished ones, by request
        self._draining = False
        self._failed = asyncio.Event()

    @property
    def options(self) -> UnitOptions | None:
        """With the models there are now."""
        return self.fleet.options if self.fleet else self._options

    @property
    def ready(self) -> bool:
        """New requests are taken."""
        return self._engine.healthy and not self._draining

    @property
    def state(self) -> str:
        """Of the whole server: ready, draining or failed."""
        return ("draining" if self._draining else "ready") if self._engine.healthy else "failed"

    def model_state(self, name: str) -> str:
        """Of one model, in a word: that of the server, or if it is ready the model's own."""
        own = {model.name: model.state.value for model in self._engine.stats().models}
        return own.get(name, self.state) if self.ready else self.state

    def model_options(self, name: str) -> ModelOptions | None:
        """Those it was configured with."""
        return next((model for model in self.options.models if model.name == name), None) if self.options else None

    async def prepare(self, generation: Generation) -> None:
        """Compiles what the answer must look like beside the event loop, which a large schema would hold up for long.

        Raises:
          RequestError: it does not compile for this model.
        """
        if generation.requests[0].sampling.grammar is not None:
            await asyncio.to_thread(self._engine.prepare, generation.requests[0])

    async def awake(self, model: str) -> None:
        """Wakes a model that sleeps, if requests may do that; for `admit`, which is to follow without a pause.

        Raises:
          RequestError: it cannot be woken.
        """
        if self.fleet is not None:
            await self.fleet.awake(model)

    async def failure(self) -> None:
        """Returns when the engine has died or got stuck, and all requests have been told."""
        await self._failed.wait()

    def stats(self) -> UnitStats:
        """Counts of the engine at this moment."""
        return self._engine.stats()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The engine started on entry, stopped on exit."""
        loop = asyncio.get_running_loop()

        def tell(outputs: list[Output]) -> None:
            loop.call_soon_threadsafe(self._deliver, outputs)

        self._engine.watch(self._tell_job)
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
    def admit(self, generation: Generation) -> Iterator[Deltas]:
        """Hands a generation to the engine at once; what is unfinished on exit is cancelled.

        Raises:
          RequestError: the engine cannot serve it, now (503) or ever; or it is not let in (429, 503).
        """
        if not self.ready:
            raise RequestError("The server takes no more requests.", code="unavailable", status=503)
        queue: asyncio.Queue[_News] = asyncio.Queue()
        admitted = self._admit(generation)
        try:
            for index, (request, place) in enumerate(zip(generation.requests, admitted, strict=True)):
                self._engine.submit(request)
                meter = self.metrics.request(request, self._tell_request)
                self._choices[request.id] = _Choice(generation, index, queue, meter, place)
            yield Deltas(self._deltas(len(generation.requests), queue), queue)
        finally:
            for request, place in zip(generation.requests, admitted, strict=True):
                self._abandon(request.id)
                place.leave()

    def _admit(self, generation: Generation) -> list[Admitted]:
        try:
            return self.admission.admit(generation.requests, generation.stamp.tenant)
        except RequestError as error:
            self.metrics.rejected.labels(generation.model.name, error.code or "").inc()
            raise

    def _count_tokens(self, tenant: Tenant, model: str, count: int) -> None:
        if tenant.metrics:
            self.metrics.tenant_tokens.labels(tenant.name, model).inc(count)

    async def _deltas(self, unfinished: int, queue: "asyncio.Queue[_News]") -> AsyncIterator[Delta]:
        """All choices' deltas in the order of their making.

        Raises:
          RequestError: the engine was stopped, or has died.
        """
        while unfinished:
            choice, output = await queue.get()
            if output.request_id not in self._choices:
                continue  # computed before the engine heard of the stop string
            delta = choice.advance(output)
            if delta.finish is not None:
                unfinished -= 1
                del self._choices[output.request_id]
                if output.finish is None:
                    self._engine.cancel(output.request_id)
            yield delta

    def _abandon(self, request_id: str) -> None:
        choice = self._choices.pop(request_id, None)
        if choice is not None:
            self._engine.cancel(request_id)
            choice.meter.end(Finish.ABORT, time.monotonic())

    def _deliver(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            choice = self._choices.get(output.request_id)
            if choice is not None:
                choice.admitted.advance(output)
                choice.queue.put_nowait(_News(choice, output))

    def _tell_job(self, record: JobRecord) -> None:
        """In the engine's thread."""
        for request_id in record.prefills:
            choice = self._choices.get(request_id)
            if choice is not None:
                choice.meter.started(record.start_s)
        self.metrics.job(record)
        for watcher in self.watchers:
            watcher.job(record)

    def _tell_request(self, record: RequestRecord) -> None:
        options = self.model_options(record.model)
        if options:
            self.metrics.judge(record, ttft_s=options.ttft_s, tpot_s=options.tpot_s)
        for watcher in self.watchers:
            watcher.request(record)

    async def _watch(self) -> None:
        """Ends the requests of an engine that has died or got stuck."""
        while True:
            if not self._engine.healthy:
                self._failed.set()
                self._end_all()
            await asyncio.sleep(_CHECK_EVERY_S)

    def _end_all(self) -> None:
        """Nobody waits for an engine that says nothing more."""
        now_s = time.monotonic()
        self._deliver([Output(request_id, None, Finish.ABORT, now_s) for request_id in self._choices])


class _Choice:
    """One request's text in the making.

    Args:
      queue: that all choices of the generation share.
    """

    def __init__(self, generation: Generation, index: int, queue: "asyncio.Queue[_News]", meter: RequestMeter, admitted: Admitted):
        self.queue = queue
        self.admitted = admitted
        self.meter = meter
        self._index = index
        request, decode = generation.requests[index], partial(generation.model.text.decode, special=generation.show_special)
        self._generation = generation
        self._echo = generation.echo_of(index)
        self._text = TextStream(
            Detokenizer(decode, request.prompt), generation.stop, include=generation.show_stop, free=request.sampling.min_tokens
        )

    def advance(self, output: Output) -> Delta:
        """Raises RequestError: an abort, which only a server that stops does, or the model has failed."""
        if output.finish is Finish.FAILED:
            name = self._generation.model.name
            raise RequestError(f"The model `{name}` has failed before the answer was complete.", code="model_failed", status=503)
        if output.finish is Finish.ABORT:
            raise RequestError("The server stopped before the answer was complete.", code="aborted", status=503)
        echo, self._echo = self._echo, ""
        delta = self._silence() if self._generation.silent else self._news(output)
        if delta.finish is not None:
            self.meter.end(delta.finish, output.at_s)
        return delta._replace(text=echo + delta.text, prompt_logprobs=output.prompt_logprobs, cached_tokens=output.cached_tokens)

    def _silence(self) -> Delta:
        """The one token was asked of the engine, not by the client."""
        return Delta(self._index, "", (), Finish.LENGTH, None)

    def _news(self, output: Output) -> Delta:
        tokens = () if output.token is None else (output.token,)
        if tokens:
            self.meter.token(output.at_s)
        text = self._grow(output)
        finish = Finish.STOP if self._text.stopped is not None else output.finish
        return Delta(self._index, text, tokens, finish, self._reason(output), output.logprobs)

    def _grow(self, output: Output) -> str:
        """A token that ends the request has no text, unless the client wants to see it."""
        hidden = output.finish is Finish.STOP and not self._generation.show_stop
        text = "" if output.token is None or hidden else self._text.feed(output.token)
        ends = output.finish is not None and self._text.stopped is None
        return text + self._text.flush() if ends else text

    def _reason(self, output: Output) -> str | int | None:
        if self._text.stopped is not None:
            return self._text.stopped
        return output.token if output.finish is Finish.STOP and output.token in self._generation.stop_token_ids else None
