"""Requests sent when they are to come, whatever became of those before; what became of each is a record."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from muxjax.bench.client.address import Address
from muxjax.bench.client.answer import Answer, read
from muxjax.bench.client.exchange import Exchange, clock
from muxjax.bench.records import End, Record
from muxjax.errors import first_line
from muxjax.workload.metrics import percentiles

BEAT_S = 0.01
"""How often the client looks whether it is late."""
BURST = 64
"""Requests that are begun in a row when several are due."""
ROUNDED = 6
"""Digits of seconds that are kept."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to come.

    Args:
      at_s: after the beginning; prompt_tokens: 0 where only the server can count them.
      body: JSON.
    """

    at_s: float
    model: str
    prompt_tokens: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the requests go.

    Args:
      places: of each model; path: of the endpoint, such as "/completions".
      timeout_s: after which an answer that has not ended is an error.
    """

    places: Mapping[str, Address]
    path: str
    key: str = ""
    timeout_s: float = 600.0


@dataclass(slots=True)
class Client:
    """Sends asks, and keeps what became of them.

    Args:
      keep: is given each record when its request has ended.
    """

    server: Server
    seed: int
    keep: Callable[[Record], None]
    _begin_s: float = 0.0
    _last_s: float = 0.0
    _late_s: list[float] = field(default_factory=list)

    async def run(self, asks: AsyncIterable[Ask], begin_s: float | None = None) -> None:
        """Returns when all requests have ended; whoever cancels it hangs up on those that have not.

        Args:
          begin_s: on `clock`, of the run; None for now.
        Raises:
          Exception: the first that `asks` or `keep` raised.
        """
        beat = asyncio.create_task(self._beat())
        self._begin_s = clock() if begin_s is None else begin_s
        try:
            async with asyncio.TaskGroup() as group:
                await self._send(asks, group)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            beat.cancel()

    def end(self, *, complete: bool) -> End:
        """What is to be said of the run as a whole."""
        late = {name: round(value, ROUNDED) for name, value in percentiles(self._late_s or [0.0], (50, 99, 100)).items()}
        return End(ended_s=round(self._last_s, ROUNDED), complete=complete, late_s=late)

    async def _send(self, asks: AsyncIterable[Ask], group: asyncio.TaskGroup) -> None:
        in_a_row = 0
        async for ask in asks:  # made before its time, not at it
            wait_s = self._begin_s + ask.at_s - clock()
            if wait_s > 0 or in_a_row == BURST:
                await asyncio.sleep(max(0.0, wait_s))
                in_a_row = 0
            in_a_row += 1
            group.create_task(self._one(ask))

    async def _one(self, ask: Ask) -> None:
        sent_s = clock()
        answer = await exchange(self.server, ask)
        record = recorded(ask, answer, seed=self.seed, begin_s=self._begin_s, sent_s=sent_s, now_s=clock())
        self._last_s = max(self._last_s, record.end_s)
        self.keep(record)

    async def _beat(self) -> None:
        while True:
            due_s = clock() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self._late_s.append(max(0.0, clock() - due_s))


async def made(asks: Iterable[Ask]) -> AsyncIterator[Ask]:
    """Asks of this process's own, each made when it is asked for."""
    for ask in asks:
        yield ask


async def exchange(server: Server, ask: Ask) -> Answer:
    """What the server answers; an error of the connection is one of the answer."""
    place, problem = server.places[ask.model], ""
    connection = Exchange(place.request(server.path, ask.body, server.key))
    try:
        async with asyncio.timeout(server.timeout_s):
            await connection.run(place)
    except TimeoutError:
        problem = f"no end within {server.timeout_s:g} s"
    except OSError as error:
        problem = f"no connection, or a broken one: {first_line(error)}"
    reading = read(connection.pieces)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            answer: Answer = end.value
            answer.error = problem or answer.error
            return answer
        await asyncio.sleep(0)


def recorded(ask: Ask, answer: Answer, *, seed: int, begin_s: float, sent_s: float, now_s: float) -> Record:
    """The record of an answer.

    Args:
      begin_s: of the run, and sent_s, now_s: of the request and the end of its reading, on the clock of the answer's events.
    """
    events_s = answer.events_s
    last_s = events_s[-1] if events_s and not answer.error else now_s
    return Record(
        model=ask.model,
        seed=seed,
        intended_s=round(ask.at_s, ROUNDED),
        sent_s=round(sent_s - begin_s, ROUNDED),
        first_s=round(events_s[0] - begin_s, ROUNDED) if events_s else None,
        end_s=round(last_s - begin_s, ROUNDED),
        prompt_tokens=ask.prompt_tokens if answer.prompt_tokens is None else answer.prompt_tokens,
        output_tokens=len(events_s) if answer.output_tokens is None else answer.output_tokens,
        status=answer.status,
        error=answer.error or ("" if events_s else "the answer ended without a token"),
        gaps_s=tuple(round(after - before, ROUNDED) for before, after in pairwise(events_s)),
    )
