"""Servers that are asked, load by load; each run is written down while it goes on."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from muxjax.bench.alone import asked_alone, fitted
from muxjax.bench.client.address import Address, address, key_in, reached
from muxjax.bench.client.exchange import clock
from muxjax.bench.client.open_loop import Client, Server, exchange, made, recorded
from muxjax.bench.client.processes import ClientProcesses
from muxjax.bench.records import AloneFit, Begin, End, Record, RecordFile, Run, require_appendable
from muxjax.commands.bench.loads import Asked, asked, rates, require_known
from muxjax.commands.bench.options import BenchOptions, LoadOptions
from muxjax.commands.client.chat_client import ChatClient
from muxjax.errors import ConfigError, require
from muxjax.progress import followed
from muxjax.server.net import open_files
from muxjax.workload.load import Load

Write = Callable[[Begin | Record | End], object]
WATCH_S = 0.5
"""How often it is looked whether a run may go on."""
LIST_S = 60.0
"""In which a server must list its models."""


@dataclass(slots=True)
class Session:
    """Runs of one load, at any rate and seed.

    Args:
      about: what else is to be said of the load in records.
      watch: looks now and then whether a run may go on; what it raises ends the run, which is then not complete.
      runs: all so far, those that were interrupted among them.
    """

    options: BenchOptions
    load: LoadOptions
    about: Mapping[str, Any] = field(default_factory=dict)
    watch: Callable[[], object] = lambda: None
    runs: list[Run] = field(default_factory=list)
    _asked: dict[int, Asked] = field(default_factory=dict)
    _alone: dict[str, AloneFit] = field(default_factory=dict)
    _models: tuple[str, ...] = ()
    _urls: dict[str, str] = field(default_factory=dict)
    _key: str = ""

    def __post_init__(self):
        open_files.raise_limit()
        if self.options.records is not None:
            require_appendable(self.options.records)
        self._key = key_in(os.environ, self.options.api_key)
        address(self.options.base_url)
        self._urls = _urls(self.load.model)
        self._models = tuple(self._urls)
        if not self._models and self.load.trace is None and self.load.workload is None:
            self._models = tuple(ChatClient(self.options.base_url, self._key, silence_s=LIST_S, straight=True).models())

    def run(self, scale: float, seed: int) -> Run:
        """One run, at a multiple of the load's rate.

        Raises:
          ConfigError: a file, a server or a model that is not there; nothing is measured.
          Exception: what `watch` raised, and
          KeyboardInterrupt: after what had ended was kept.
        """
        scale *= self.load.rate_scale
        if seed not in self._asked:
            self._asked[seed] = asked(self.load, self._models, seed)
        what = self._asked[seed]
        requests = what.at(scale)
        if self._urls:
            require_known((arrival.model for arrival in requests.arrivals), self._urls)
        return asyncio.run(self._run(what, requests, scale, seed))

    async def _run(self, what: Asked, requests: Load, scale: float, seed: int) -> Run:
        server = await self._server(requests, what.path)
        self._alone |= await self._ask_alone(server, what, requests)
        begin = Begin(
            label=self.options.label,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            path=what.path,
            load=self.load.written | dict(self.about),
            seed=seed,
            scale=scale,
            rate_rps=what.rate_rps and what.rate_rps * scale,
            rates=rates(requests),
            demanded=len(requests.arrivals),
            alone=dict(self._alone),
        )
        with _written(self.options) as write, _progress(begin) as done:
            write(begin)
            records: list[Record] = []

            def keep(record: Record) -> None:
                records.append(record)
                write(record)
                done()

            several = self.options.clients
            client = Client(server, seed, keep) if several == 1 else ClientProcesses(server, seed, keep, several)
            complete = False
            try:
                await self._watched(client.run(made(what.asks(requests))))
                complete = True
            finally:
                self.runs.append(Run(begin=begin, records=tuple(records), end=client.end(complete=complete)))
                write(client.end(complete=complete))
        return self.runs[-1]

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        """Returns when the work is done and `watch` has nothing against it; raises what either raises."""
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch())
                await work
                watching.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        self.watch()

    async def _watch(self) -> None:
        while True:
            self.watch()
            await asyncio.sleep(WATCH_S)

    async def _server(self, requests: Load, path: str) -> Server:
        """Raises ConfigError: one that is asked is not there."""
        wanted = {model: self._urls.get(model) or self.options.base_url for model in {arrival.model for arrival in requests.arrivals}}
        at: Mapping[str, Address] = {url: await reached(address(url)) for url in sorted(set(wanted.values()))}
        places = {model: at[url] for model, url in wanted.items()}
        return Server(places=places, path=path, key=self._key, timeout_s=self.options.timeout_s)

    async def _ask_alone(self, server: Server, what: Asked, requests: Load) -> dict[str, AloneFit]:
        """What requests take one at a time, by model, of those that no run before has asked; the first of each only warms up where there
        are more.

        Raises:
          ConfigError: one fails, as all would.
        """
        every = asked_alone(requests, self.options.warmup) if self.options.warmup else {}
        chosen = {model: own for model, own in every.items() if model not in self._alone}
        found: dict[str, AloneFit] = {}
        if not chosen:
            return found
        with followed("asking alone", " requests", sum(map(len, chosen.values()))) as done:
            for model, own in chosen.items():
                served = []
                for number, arrival in own:
                    ask, begin_s = what.ask(number, arrival._replace(time_s=0.0)), clock()
                    answer = await exchange(server, ask)
                    record = recorded(ask, answer, seed=0, begin_s=begin_s, sent_s=begin_s, now_s=clock())
                    if record.served is None:
                        raise ConfigError(f"{model} at {server.places[model].url}: {record.error}", field="model")
                    served.append(record.served)
                    done()
                if fit := fitted(served[1:] or served):
                    found[model] = fit
        return found


@contextlib.contextmanager
def _written(options: BenchOptions) -> Iterator[Write]:
    """A function that writes a line, if there is a file for it."""
    if options.records is None:
        yield lambda line: None
        return
    with RecordFile(options.records) as file:
        yield file.write


def _progress(begin: Begin) -> AbstractContextManager[Callable[..., None]]:
    """A function that counts a request that has ended."""
    rate = "all at once" if begin.rate_rps is None else f"{begin.rate_rps:.4g} requests/s"
    return followed(f"{begin.label}: {rate}, seed {begin.seed}", " requests", begin.demanded)


def _urls(models: tuple[str, ...]) -> dict[str, str]:
    """URL of each model, "" where only its name was given.

    Raises:
      ConfigError: no name, no URL, or a name twice.
    """
    found: dict[str, str] = {}
    for text in models:
        name, equals, url = text.partition("=")
        if not name or (equals and not url):
            raise ConfigError(f"model must be NAME or NAME=URL, got {text!r}", field="model")
        require(name not in found, "model", name, "named once")
        if url:
            address(url)
        found[name] = url
    return found
