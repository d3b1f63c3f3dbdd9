"""Errors as OpenAI's error objects."""

from muxjax.errors import RequestError

_LONGEST = 480  # characters of a message, of at most four bytes each
_KINDS = {500: "server_error", 503: "service_unavailable", 429: "rate_limit_error"}
OURS = "The server had an error while processing the request."
"""All that is told of an error that is ours."""


def message_of(error: Exception) -> str:
    """What a client is told of it."""
    return str(error)[:_LONGEST] if isinstance(error, RequestError) else OURS


def error_object(error: Exception) -> dict[str, object]:
    """The JSON of an error."""
    if not isinstance(error, RequestError):
        return _object(OURS, "server_error", "internal_error", None)
    return _object(message_of(error), _KINDS.get(error.status, "invalid_request_error"), error.code, error.param)


def _object(message: str, kind: str, code: str | None, param: str | None) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
