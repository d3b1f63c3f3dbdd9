"""Watchers: who is told of requests and jobs as they end."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

from muxjax.engine.job_records import JobRecord
from muxjax.server.config import HttpOptions
from muxjax.server.telemetry.otel import Spans
from muxjax.server.telemetry.request_record import RequestRecord
from muxjax.server.telemetry.trace import TraceFile


class Watcher(Protocol):
    """Is told of what ends; it neither waits nor raises."""

    def request(self, record: RequestRecord) -> None:
        """In the event loop's thread."""
        ...

    def job(self, record: JobRecord) -> None:
        """In the engine's thread, before anybody hears of the job's tokens."""
        ...


@contextlib.contextmanager
def open_watchers(http: HttpOptions) -> Iterator[list[Watcher]]:
    """The trace file and OpenTelemetry's spans, as far as the options ask for them; closed at the end.

    Raises:
      ConfigError: one of them cannot begin.
    """
    with contextlib.ExitStack() as stack:
        watchers: list[Watcher] = []
        if http.trace is not None:
            watchers.append(stack.enter_context(contextlib.closing(TraceFile(http.trace))))
        if http.otel:
            watchers.append(stack.enter_context(contextlib.closing(Spans())))
        yield watchers
