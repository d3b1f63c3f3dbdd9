"""Logs as text or JSON lines, each with the id of the HTTP request it belongs to, and a line for each answer; never a request's text."""

import contextvars
import logging
import re
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TextIO

from aiohttp import web

from muxjax.server.strict_json import encode
from muxjax.server.telemetry.flood import Flood
from muxjax.server.telemetry.request_record import RequestRecord

_SANE_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
_SANE_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_CLIENT_LEFT = 499  # nginx's word for it; nobody reads this status but the log
_QUIET = ("/health", "/ping", "/ready", "/metrics", "/server_info/live")
_log = logging.getLogger("muxjax.access")


class Access:
    """The line of the access log for one HTTP request, which may be several requests to the engine.

    Args:
      id: the client's if it is a sane one, else one of ours.
    """

    def __init__(self, headers: Any):
        name, parent = headers.get("X-Request-Id", ""), headers.get("traceparent", "")
        self.id = name if _SANE_ID.fullmatch(name) else uuid.uuid4().hex
        self.traceparent = parent if _SANE_TRACEPARENT.fullmatch(parent) else ""
        self._model: str | None = None
        self._prompt_tokens = self._tokens = 0
        self._ttft_s: float | None = None

    def add(self, record: RequestRecord) -> None:
        self._model = record.model
        self._prompt_tokens += record.prompt_tokens
        self._tokens += record.tokens
        if record.ttft_s is not None:
            self._ttft_s = min(record.ttft_s, self._ttft_s or record.ttft_s)

    def fields(self) -> dict[str, object]:
        """Fields of the log's line for what reached a model; none if nothing did."""
        if self._model is None:
            return {}
        ttft = {} if self._ttft_s is None else {"ttft_s": round(self._ttft_s, 6)}
        return {"model": self._model, "prompt_tokens": self._prompt_tokens, "tokens": self._tokens, **ttft}


current: contextvars.ContextVar[Access | None] = contextvars.ContextVar("current", default=None)


@web.middleware
async def logged(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Gives a request its id, under which all lines of it are logged, and logs its end."""
    access = Access(request.headers)
    current.set(access)  # of this task, which is the request's alone
    begin_s, status = time.monotonic(), _CLIENT_LEFT
    try:
        response = await handler(request)
        status = response.status
        return response
    finally:
        _log_access(request, access, status, time.monotonic() - begin_s)


async def echo_id(request: web.Request, response: web.StreamResponse) -> None:
    """Every answer names the id of its request."""
    access = current.get()
    response.headers["X-Request-Id"] = access.id if access else uuid.uuid4().hex


def configure(level: str, log_format: str, stream: TextIO | None = None, *, about: str = "") -> None:
    """Sends all logs to standard error, or to `stream`: muxjax' from that level on, others' warnings.

    Args:
      about: what of several processes this is, told in every line.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(Flood())
    handler.setFormatter(_Json(about) if log_format == "json" else _Text(about))
    logging.basicConfig(handlers=[handler], force=True)
    logging.getLogger("muxjax").setLevel(level.upper())


def _log_access(request: web.Request, access: Access, status: int, duration_s: float) -> None:
    level = logging.DEBUG if request.path in _QUIET else logging.INFO
    path = request.rel_url.raw_path[:200]
    fields = {"method": request.method, "path": path, "status": status, **access.fields(), "duration_s": round(duration_s, 6)}
    _log.log(level, "answered", extra={"fields": fields})


class _Text(logging.Formatter):
    """`time level logger [request id] message key=value ...`, one line but for exceptions."""

    def __init__(self, about: str):
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(about)s%(message)s%(facts)s")
        self._about = f"{about}: " if about else ""

    def format(self, record: logging.LogRecord) -> str:
        access = current.get()
        record.about = self._about + (f"[{access.id}] " if access else "")
        record.facts = "".join(f" {key}={value}" for key, value in getattr(record, "fields", {}).items())
        return super().format(record)


class _Json(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, about: str):
        super().__init__()
        self._about = {"process": about} if about else {}

    def format(self, record: logging.LogRecord) -> str:
        access = current.get()
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._about,
            **({"request_id": access.id} if access else {}),
            **getattr(record, "fields", {}),
            **({"exception": self.formatException(record.exc_info)} if record.exc_info else {}),
        }
        return encode(line, default=str)
