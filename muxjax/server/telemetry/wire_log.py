"""Log of the HTTP protocol itself, without what clients sent: a malformed header may hold a key, and errors repeat it."""

import logging
import traceback

from aiohttp.http_exceptions import HttpProcessingError

LOGGER = logging.getLogger("muxjax.server.http.protocol")


class _NoText(logging.Filter):
    """Replaces an exception by its kind, and where it is no client's fault by the line it came from."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.exc_info:
            return True
        error = record.exc_info[1]
        kind = type(error).__name__
        if isinstance(error, HttpProcessingError):
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            kind = f"no proper HTTP, {kind}"
        elif error is not None and (frames := traceback.extract_tb(error.__traceback__)):
            kind = f"{kind} at {frames[-1].filename}:{frames[-1].lineno}"
        record.msg, record.args = f"{record.getMessage()}: %s", (kind,)
        record.exc_info = record.exc_text = None
        return True


LOGGER.addFilter(_NoText())
