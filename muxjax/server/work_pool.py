"""Thread pools for the work of clients' requests, which the event loop must not wait for, and of which nobody may have all."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


class WorkPool:
    """Threads for the tasks of one event loop. Each line of clients may keep so many of them busy, and its other work waits.

    Args:
      share: threads that one line may have.
    """

    def __init__(self, name: str, *, threads: int, share: int):
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"muxjax-{name}")
        self._share = share
        self._places: dict[str, _Place] = {}

    async def run(self, line: str, work: Callable[[], T]) -> T:
        """The work's result, or what it raises. A caller that is cancelled leaves work that has begun to its end, and the place taken."""
        loop = asyncio.get_running_loop()
        place = self._places.setdefault(line, _Place(asyncio.Semaphore(self._share)))
        place.users += 1
        try:
            await place.free.acquire()
        except asyncio.CancelledError:
            self._leave(line, place)
            raise

        def leave(_: "Future[T]") -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._release, line, place)

        future = self._executor.submit(work)
        future.add_done_callback(leave)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Takes no more, and waits for nothing."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _release(self, line: str, place: "_Place") -> None:
        place.free.release()
        self._leave(line, place)

    def _leave(self, line: str, place: "_Place") -> None:
        place.users -= 1
        if not place.users:
            self._places.pop(line, None)


@dataclass(slots=True)
class _Place:
    """A line's threads that are free, and how many wait for one or have one."""

    free: asyncio.Semaphore
    users: int = 0


@dataclass(frozen=True, slots=True)
class WorkPools:
    """Pools by what the work costs, so that what is quick does not wait for what is slow.

    Attributes:
      small: requests of usual size.
      large: long texts, and long answers.
      grammars: requests with a grammar, whose compilation takes as long as it takes.
    """

    small: WorkPool = field(default_factory=lambda: WorkPool("small", threads=4, share=3))
    large: WorkPool = field(default_factory=lambda: WorkPool("large", threads=2, share=1))
    grammars: WorkPool = field(default_factory=lambda: WorkPool("grammars", threads=2, share=1))

    def close(self) -> None:
        for pool in (self.small, self.large, self.grammars):
            pool.close()
