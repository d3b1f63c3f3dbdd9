"""Thread pools for the work of clients' requests, which the event loop must not wait for, and of which nobody may have all."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


class WorkPool:
    """Threads for the tasks of event loops. Each line of clients may keep so many of them busy, and its other work waits; lines take turns.

    A thread that has done with one piece of work takes the next itself: the event loop, which may have thousands of streams to write, is
    only told of results.

    Args:
      share: threads that one line may have.
    """

    def __init__(self, name: str, *, threads: int, share: int):
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"muxjax-{name}")
        self._share = share
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}  # that have work, the one whose turn is next first

    async def run(self, line: str, work: Callable[[], T]) -> T:
        """The work's result, or what it raises. A caller that is cancelled leaves work that has begun to its end, and its thread taken."""
        future: Future[T] = Future()
        with self._lock:
            self._lines.setdefault(line, _Line()).waiting.append(_Work(future, work))
        self._executor.submit(self._serve)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Takes no more, and waits for nothing."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            waiting = [work for line in self._lines.values() for work in line.waiting]
            self._lines.clear()
        for work in waiting:
            work.future.cancel()

    def _serve(self) -> None:
        """In a thread: does work until there is none that may be done."""
        while self._serve_next():
            pass

    def _serve_next(self) -> bool:
        with self._lock:
            name = next((name for name, line in self._lines.items() if line.waiting and line.running < self._share), None)
            if name is None:
                return False
            line = self._lines[name] = self._lines.pop(name)  # the others' turn is before its next
            line.running += 1
            work = line.waiting.popleft()
        work.do()
        del work  # as in `_Work.do`
        with self._lock:
            line.running -= 1
            if not line.running and not line.waiting and self._lines.get(name) is line:
                del self._lines[name]
        return True


@dataclass(frozen=True, slots=True)
class _Work:
    """A piece of work, and who is told of it."""

    future: Future[Any]
    call: Callable[[], Any]

    def do(self) -> None:
        """An error keeps the frames that it came through: none of them may keep its future, or they would all stay, and what they hold."""
        future, call = self.future, self.call
        del self
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = call()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        finally:
            del future, call


@dataclass(slots=True)
class _Line:
    """Work of one line that waits, and how many threads it has."""

    waiting: deque[_Work] = field(default_factory=deque[_Work])
    running: int = 0


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
