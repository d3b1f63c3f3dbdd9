"""The service: requests past admission control into an engine, and each one's text out of it."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from muxjax.engine.device_control import Lifecycle
from muxjax.engine.job_records import JobRecord, OnJob
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.engine.stats import UnitStats
from muxjax.errors import RequestError
from muxjax.server.admission.admission import Admission, Admitted
from muxjax.server.admission.tenants import Tenant
from muxjax.server.catalog import Catalog, ServedModel
from muxjax.server.choice import Choice, ChoiceOutput, Delta, Inbox
from muxjax.server.fleet import Fleet
from muxjax.server.generation import Generation
from muxjax.server.outbox import Outbox
from muxjax.server.plans.placing import Placing
from muxjax.server.residency import Residency
from muxjax.server.telemetry.metrics import Metrics
from muxjax.server.telemetry.recent_activity import RecentActivity
from muxjax.server.telemetry.request_record import RequestRecord
from muxjax.server.telemetry.watcher import Watcher
from muxjax.server.text.detokenizer import Detokenizer
from muxjax.server.work_pool import WorkPools
from muxjax.types import Finish, Output, Request

_CHECK_EVERY_S = 0.5
_QUICK_TOKENS, _QUICK_REQUESTS = 4096, 8
"""Of a generation that is prepared at once, which takes less than waiting for a thread."""
_BY_FORCE = (Finish.ABORT, Finish.FAILED, Finish.ERROR)
_MOST_AT_ONCE = 64
"""Outputs of one generation that become text before others have their turn: some milliseconds."""


Chore = Callable[[], Coroutine[Any, Any, None]]
"""What is done beside the requests as long as a service runs."""


class Engine(Protocol):
    """What the server asks of an engine; see `engine.engine.Engine`."""

    @property
    def healthy(self) -> bool: ...
    def prepare(self, request: Request) -> object: ...
    def submit(self, request: Request, *, prepared: bool = False) -> None: ...
    def cancel(self, request_id: str) -> None: ...
    def watch(self, on_job: OnJob) -> None: ...
    def start(self, on_outputs: Callable[[list[Output]], None]) -> None: ...
    def drain(self, timeout_s: float) -> bool: ...
    def stop(self) -> None: ...
    def stats(self) -> UnitStats: ...
    def unit_stats(self) -> Mapping[str, UnitStats]: ...
    def states(self) -> Mapping[str, str]: ...


Deltas = AsyncIterator[Iterator[Delta]]
"""All choices' deltas in the order of their making, those together that are there already: whoever writes may take them along."""


class _Prepared(NamedTuple):
    """What was made beforehand of a generation.

    Args:
      detokenizers: one for each prompt.
      held: by the engine's wish, as long as the answer is made.
    """

    detokenizers: tuple[Detokenizer, ...]
    held: object


class Service:
    """Models on an engine for the tasks of one event loop.

    Args:
      options: what the engine was built of; None where it was not built of any.
      lifecycle: what changes its models; None where they stay as they are.
      placing: what moves them between units; None where there is one.
    """

    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        options: UnitOptions | None = None,
        lifecycle: Lifecycle | None = None,
        placing: Placing | None = None,
    ):
        self.catalog, self.placing = catalog, placing
        self.fleet = Fleet(lifecycle, catalog, options) if lifecycle and options else None
        if placing and self.fleet:
            placing.follow(self.fleet.staying)
        self._options = options
        self.metrics = Metrics(engine.unit_stats, lifecycle.programs if lifecycle else dict)
        self.admission = Admission(options, self.model_options, on_tokens=self._count_tokens)
        self.recent = RecentActivity()
        self.watchers: list[Watcher] = [self.recent]  # to be added to before it runs, and so are:
        self.chores: list[Chore] = [Residency(self.fleet, self.stats).run] if self.fleet else []
        self.pools = WorkPools()
        self._engine = engine
        self._choices: dict[str, Choice] = {}  # unfinished ones, by request
        self.outbox = Outbox(self._choices.get)
        self._draining = False
        self._failed = asyncio.Event()

    @property
    def options(self) -> UnitOptions | None:
        """The unit's options, with the models there are now."""
        return self.fleet.options if self.fleet else self._options

    @property
    def ready(self) -> bool:
        """New requests are taken."""
        return self._engine.healthy and not self._draining

    @property
    def state(self) -> str:
        """State of the whole server: ready, draining or failed."""
        return ("draining" if self._draining else "ready") if self._engine.healthy else "failed"

    def model_state(self, name: str) -> str:
        """State of one model, or of that under an adapter, in a word: that of the server, or if it is ready the model's own. One that no
        unit is to serve has none."""
        if not self.ready:
            return self.state
        return self._engine.states().get(self.catalog.base_of(name), "unplaced" if self.placing else self.state)

    def model_options(self, name: str) -> ModelOptions | None:
        """Options that a model, or that under an adapter, was configured with."""
        base = self.catalog.base_of(name)
        return next((model for model in self.options.models if model.name == base), None) if self.options else None

    async def failure(self) -> None:
        """Returns when the engine has died or got stuck, and all requests have been told."""
        await self._failed.wait()

    def stats(self) -> UnitStats:
        """Counts of the engine at this moment."""
        return self._engine.stats()

    def unit_stats(self) -> Mapping[str, UnitStats]:
        """The same of each of its units."""
        return self._engine.unit_stats()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The engine started on entry, stopped on exit."""
        loop = asyncio.get_running_loop()

        def tell(outputs: list[Output]) -> None:
            loop.call_soon_threadsafe(self.outbox.add, outputs)

        self._engine.watch(self._tell_job)
        self._engine.start(tell)
        chores = [asyncio.create_task(chore()) for chore in (self._watch, *self.chores)]
        try:
            yield
        finally:
            for chore in chores:
                chore.cancel()
            self.pools.close()
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

    @contextlib.asynccontextmanager
    async def generate(self, generation: Generation) -> AsyncIterator[Deltas]:
        """The deltas of a generation that the engine has taken; what is unfinished on exit is cancelled.

        A model that sleeps is woken, if requests may do that. Refusals come before the first delta, so that HTTP can give them a status.

        Raises:
          RequestError: the engine cannot serve it, now (503) or ever (400); or it is not let in (429, 503).
        """
        detokenizers, held = await self._prepare(generation)
        if self.fleet is not None:
            await self.fleet.awake(generation.model.base)
        with self._submitted(generation, detokenizers) as deltas:  # without a pause, in which the model could be put to sleep again
            yield deltas
        del held  # until here: a compiled grammar is kept as long as its answers are made

    async def whole(self, generation: Generation) -> list[Delta]:
        """All deltas of a generation, once it is complete.

        Raises:
          RequestError: as for `generate`, or the engine ended before the answer did.
        """
        async with self.generate(generation) as deltas:
            return [delta async for together in deltas for delta in together]

    async def _prepare(self, generation: Generation) -> "_Prepared":
        """Does beside the event loop what would hold it up: a large schema, many bad words, many prompts, an adapter that is to be read."""

        def prepare() -> _Prepared:
            held = self._engine.prepare(generation.requests[0])
            return _Prepared(tuple(generation.detokenizer(request.prompt) for request in generation.requests[:: generation.n]), held)

        sampling = generation.requests[0].sampling
        few = generation.prompt_tokens <= _QUICK_TOKENS and len(generation.requests) <= _QUICK_REQUESTS
        if few and not (sampling.grammar or sampling.bad_words or generation.model.adapter):
            return prepare()
        pool = self.pools.grammars if sampling.grammar else self.pools.small
        return await pool.run(generation.stamp.line, prepare)

    @contextlib.contextmanager
    def _submitted(self, generation: Generation, detokenizers: Sequence[Detokenizer]) -> Iterator[Deltas]:
        """Hands the requests to the engine at once, past admission control."""
        if not self.ready:
            raise RequestError("The server takes no more requests.", code="unavailable", status=503)
        if self.fleet is not None and not self.catalog.holds(generation.model):
            raise _gone(generation.model.name)  # or there is another one of its name by now, with other tokens
        inbox = Inbox()
        places = self._admit(generation)
        try:
            for index, (request, place) in enumerate(zip(generation.requests, places, strict=True)):
                meter = self.metrics.request(request, self._tell_request)
                self._submit(request, Choice(generation, index, detokenizers[index // generation.n].copy(), inbox, meter, place))
            yield self._deltas(generation, inbox)
        finally:
            for request, place in zip(generation.requests, places, strict=True):
                self._abandon(request.id)
                place.leave()

    def _submit(self, request: Request, choice: Choice) -> None:
        """The choice is known before the request is, for the engine's thread may tell of its first job at once."""
        self._choices[request.id] = choice
        try:
            self._engine.submit(request, prepared=True)
        except RequestError:
            del self._choices[request.id]
            raise

    def _admit(self, generation: Generation) -> list[Admitted]:
        try:
            return self.admission.admit(generation.requests, generation.stamp.tenant)
        except RequestError as error:
            self.metrics.rejected.labels(generation.model.name, error.code or "").inc()
            raise

    def _count_tokens(self, tenant: Tenant, model: str, count: int) -> None:
        if tenant.metrics:
            self.metrics.tenant_tokens.labels(tenant.name, model).inc(count)

    async def _deltas(self, generation: Generation, inbox: Inbox) -> Deltas:
        """Those of all choices, each batch to be made before the next one is asked for.

        Raises:
          RequestError: the engine was stopped, or has died, or the model was removed, or put to sleep.
        """
        unfinished = {request.id for request in generation.requests}
        while unfinished:
            yield self._made(generation, await inbox.take(_MOST_AT_ONCE), unfinished)
            if inbox:
                await asyncio.sleep(0)  # others' turn

    def _made(self, generation: Generation, taken: Sequence[ChoiceOutput], unfinished: set[str]) -> Iterator[Delta]:
        """What has come makes of its choices, of which those that end are unfinished no more."""
        for choice, outputs in _together(taken, generation):
            last = outputs[-1]
            if last.request_id not in unfinished:
                continue  # computed before the engine heard of the stop string
            if last.finish is Finish.ABORT:
                raise self._cut_off(generation.model)
            delta = choice.advance(outputs)
            if delta.finish is not None:
                unfinished.remove(last.request_id)
                del self._choices[last.request_id]
                if last.finish is None:
                    self._engine.cancel(last.request_id)
            yield delta

    def _cut_off(self, model: ServedModel) -> RequestError:
        """Error of an answer that was ended for another reason than its own."""
        what, code = "server stopped", "aborted"
        if self.fleet is not None and not self.catalog.holds(model):
            what, code = f"model `{model.name}` was removed", "model_removed"
        elif self.fleet is not None and self.fleet.rests(model.base):
            what, code = f"model `{model.name}` was put to sleep", "model_asleep"
        return RequestError(f"The {what} before the answer was complete.", code=code, status=503)

    def _abandon(self, request_id: str) -> None:
        choice = self._choices.pop(request_id, None)
        if choice is not None:
            self._engine.cancel(request_id)
            choice.meter.end(Finish.ABORT, time.monotonic())

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
        self.outbox.add([Output(request_id, None, Finish.ABORT, now_s) for request_id in self._choices])


def _together(taken: Sequence[ChoiceOutput], generation: Generation) -> Iterator[tuple[Choice, list[Output]]]:
    """Outputs that become one delta: those of one choice in a row, where nobody is told of each token; what ends it by force has none."""
    if len(taken) == 1:  # as mostly
        yield taken[0].choice, [taken[0].output]
        return
    for (choice, _), own in itertools.groupby(taken, key=lambda one: (one.choice, one.output.finish in _BY_FORCE)):
        outputs = [one.output for one in own]
        if generation.tells_each:
            yield from ((choice, [output]) for output in outputs)
        else:
            yield choice, outputs


def _gone(name: str) -> RequestError:
    return RequestError(f"The model `{name}` does not exist any more.", param="model", code="model_not_found", status=404)
