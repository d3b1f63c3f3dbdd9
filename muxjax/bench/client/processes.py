"""A client of several processes, for loads that keep one busy: they send in turn, and what became of the requests comes together again."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import cycle

from muxjax.bench.client.exchange import clock
from muxjax.bench.client.messages import MOST_LINE, Begin, decoded, encoded
from muxjax.bench.client.open_loop import Ask, Server
from muxjax.bench.records import END, End, Record

LEAD_S = 1.0
"""How long before its time an ask is with the process that sends it."""
SOON_S = 0.1
"""From the last process's word that it is there to the beginning of the run."""


@dataclass(slots=True)
class ClientProcesses:
    """As `open_loop.Client`, by so many processes.

    Raises (`run`):
      RuntimeError: a process has ended before its requests have.
    """

    server: Server
    seed: int
    keep: Callable[[Record], None]
    count: int
    _ends: list[End] = field(default_factory=list)
    _last_s: float = 0.0

    async def run(self, asks: AsyncIterable[Ask]) -> None:
        """Returns when all requests have ended; whoever cancels it hangs up on those that have not."""
        async with _started(self.count) as processes:
            begin_s = clock() + SOON_S
            for process in processes:
                _stdin(process).write(encoded(Begin.of(self.server, self.seed, begin_s)))
            try:
                async with asyncio.TaskGroup() as group:
                    for process in processes:
                        group.create_task(self._hear(process))
                    await _deal(asks, processes, begin_s)
            except BaseExceptionGroup as failures:
                raise failures.exceptions[0] from None

    def end(self, *, complete: bool) -> End:
        """What is to be said of the run as a whole: of how late loops were, what the latest was."""
        ends = self._ends or [End(ended_s=0.0, complete=False, late_s={"p50": 0.0, "p99": 0.0, "p100": 0.0})]
        late_s = {at: max(end.late_s[at] for end in ends) for at in ends[0].late_s}
        return End(ended_s=self._last_s, complete=complete, late_s=late_s)

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while data := await process.stdout.readline():
            if data.startswith(END):
                self._ends.append(decoded(data, End))
                return
            record = decoded(data, Record)
            self._last_s = max(self._last_s, record.end_s)
            self.keep(record)
        raise RuntimeError("a process of the client has ended before its requests have")


@contextlib.asynccontextmanager
async def _started(count: int) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Processes that are there to be told what to do; they end with the block, whatever they do."""
    processes: list[asyncio.subprocess.Process] = []
    try:
        for _ in range(count):
            processes.append(await _start())
        for process in processes:
            assert process.stdout is not None
            await process.stdout.readline()
        yield processes
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _start() -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "muxjax.bench.client.process")
    return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=MOST_LINE, start_new_session=True)


async def _deal(asks: AsyncIterable[Ask], processes: list[asyncio.subprocess.Process], begin_s: float) -> None:
    """Each ask to the next process, some time before its own."""
    turns = cycle(map(_stdin, processes))
    async for ask in asks:
        stdin = next(turns)
        stdin.write(encoded(ask))
        await stdin.drain()
        if (early_s := begin_s + ask.at_s - LEAD_S - clock()) > 0:
            await asyncio.sleep(early_s)
    for process in processes:
        _stdin(process).close()


def _stdin(process: asyncio.subprocess.Process) -> asyncio.StreamWriter:
    assert process.stdin is not None
    return process.stdin
