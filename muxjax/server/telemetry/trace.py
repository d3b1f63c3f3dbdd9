"""`--trace FILE`: requests and jobs as Chrome's trace events, which Perfetto and chrome://tracing show."""

import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from muxjax.engine.job_records import JobRecord
from muxjax.errors import ConfigError
from muxjax.server.strict_json import encode
from muxjax.server.telemetry.request_record import RequestRecord

_MOST_QUEUED = 2**16
_END = b"\n]\n"
_JOBS, _REQUESTS = 1, 2  # the processes under which a viewer shows them
_log = logging.getLogger(__name__)

Event = dict[str, Any]


class TraceFile:
    """A watcher that writes what ends to a file, from a thread of its own.

    The file is a whole JSON array after each write, for every write is one call that puts its events where the array's end was, and the end
    behind them: whoever kills the process leaves a file that can be read. What the disk cannot keep up with is dropped, and counted.

    Raises:
      ConfigError: the file cannot be written.
    """

    def __init__(self, path: Path):
        self._path = path
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        except (OSError, ValueError) as error:
            raise _unwritable(path, error) from error
        self._begin_s = time.monotonic()
        self._tracks: dict[tuple[str, int], int] = {}
        self._numbers = itertools.count(1)
        self._queue: queue.Queue[RequestRecord | JobRecord | None] = queue.Queue(_MOST_QUEUED)
        self._dropped = 0
        self._size = 0
        try:
            self._append([_named(_JOBS, "process_name", "jobs"), _named(_REQUESTS, "process_name", "requests")])
        except OSError as error:
            os.close(self._file)
            raise _unwritable(path, error) from error
        self._thread = threading.Thread(target=self._run, name="muxjax-trace", daemon=True)
        self._thread.start()

    def request(self, record: RequestRecord) -> None:
        self._put(record)

    def job(self, record: JobRecord) -> None:
        self._put(record)

    def close(self) -> None:
        """Writes what is left, and tells how much was dropped."""
        self._queue.put(None)
        self._thread.join()
        os.close(self._file)
        if self._dropped:
            _log.warning("the trace %s lacks %d events: the disk was too slow", self._path, self._dropped)

    def _put(self, record: RequestRecord | JobRecord) -> None:
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def _run(self) -> None:
        try:
            for record in iter(self._queue.get, None):
                self._append(list(self._job(record) if isinstance(record, JobRecord) else self._request(record)))
        except OSError as error:
            _log.error("the trace %s ends here: %s", self._path, error.strerror)
            for _ in iter(self._queue.get, None):
                pass  # so that the queue never fills

    def _job(self, record: JobRecord) -> Iterator[Event]:
        """A track for each lane of each unit, whose jobs follow each other."""
        lane = record.unit, record.lane
        if lane not in self._tracks:
            self._tracks[lane] = 1 + len(self._tracks)
            yield _named(_JOBS, "thread_name", f"unit {record.unit}, lane {record.lane}", self._tracks[lane])
        yield {
            "name": f"{record.model}: {record.phase}",
            "cat": "job",
            "ph": "X",
            "ts": self._us(record.start_s),
            "dur": round((record.end_s - record.start_s) * 1e6, 1),
            "pid": _JOBS,
            "tid": self._tracks[lane],
            "args": {
                "model": record.model,
                "sequences": record.rows,
                "tokens": record.tokens,
                "padding": record.padding,
                "multiprocessors": record.sm_share or "all",
            },
        }

    def _request(self, record: RequestRecord) -> Iterator[Event]:
        """Spans within one of the whole request; requests overlap, so each has an id."""
        common = {"cat": "request", "id": next(self._numbers), "pid": _REQUESTS, "tid": 0}
        args = {
            "id": record.id,
            "request_id": record.http_id,
            "prompt_tokens": record.prompt_tokens,
            "tokens": record.tokens,
            "finish": record.finish.value,
        }
        yield {"name": record.model, "ph": "b", "ts": self._us(record.arrival_s), "args": args, **common}
        for name, begin_s, end_s in record.spans():
            yield {"name": name, "ph": "b", "ts": self._us(begin_s), **common}
            yield {"name": name, "ph": "e", "ts": self._us(end_s), **common}
        yield {"name": record.model, "ph": "e", "ts": self._us(record.end_s), **common}

    def _us(self, at_s: float) -> float:
        """Microseconds since the trace began."""
        return round((at_s - self._begin_s) * 1e6, 1)

    def _append(self, events: list[Event]) -> None:
        lines = ",\n".join(encode(event) for event in events).encode()
        before = b",\n" if self._size else b"[\n"
        os.pwrite(self._file, before + lines + _END, self._size)
        self._size += len(before) + len(lines)


def _unwritable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"cannot write the trace {path}: {getattr(error, 'strerror', '') or error}", field="trace")


def _named(process: int, kind: str, name: str, track: int = 0) -> Event:
    return {"name": kind, "ph": "M", "pid": process, "tid": track, "args": {"name": name}}
