"""Floods of one and the same line, cut short: a log that fills the disk tells nothing, and takes the server with it."""

import logging
import threading
import time
from collections.abc import Callable

_MOST_PLACES = 1000


class Flood(logging.Filter):
    """Lets through so many warnings or errors of a kind in so many seconds; the first one after that says how many were left out.

    Those of one line of code are of a kind, if they begin with the same text before its arguments are filled in.
    """

    def __init__(self, *, most: int = 20, within_s: float = 10.0, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self._most, self._within_s, self._clock = most, within_s, clock
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}  # begin of each kind's span, and lines since
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        kind = record.name, record.lineno, str(record.msg).partition("\n")[0][:100]
        with self._lock:
            now_s = self._clock()
            if len(self._seen) > _MOST_PLACES:
                self._seen.clear()
            begin_s, count = self._seen.get(kind, (now_s, 0))
            left_out = 0
            if now_s - begin_s >= self._within_s:
                begin_s, count, left_out = now_s, 0, max(0, count - self._most)
            self._seen[kind] = begin_s, count + 1
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} lines like this one were left out)", ()
        return count < self._most
