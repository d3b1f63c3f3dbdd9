"""A thread that waits for what ends, and tells of it."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress


class Watch:
    """Waits for what it is given, in that order.

    Its thread is sent for only where it has nothing left to wait for: to wake another thread takes the loop longer than all else that it
    does with a step.

    Args:
      on_end: called in that thread whenever something has ended, well or not.
      name: of the thread.
    """

    def __init__(self, on_end: Callable[[], object], name: str):
        self._on_end = on_end
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waits: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()
        self._is_waiting = False

    def add(self, wait: Callable[[], object]) -> None:
        """One thing more; `wait` returns, or raises, once it has ended."""
        with self._lock:
            self._waits.append(wait)
            is_idle, self._is_waiting = not self._is_waiting, True
        if is_idle:
            self._thread.submit(self._run)

    def _run(self) -> None:
        while (wait := self._next()) is not None:
            with suppress(Exception):  # whoever asks for what has ended hears of it
                wait()
            self._on_end()

    def _next(self) -> Callable[[], object] | None:
        with self._lock:
            self._is_waiting = bool(self._waits)
            return self._waits.popleft() if self._waits else None
