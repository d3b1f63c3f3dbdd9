"""Errors as Anthropic's error objects."""

from muxjax.errors import RequestError
from muxjax.server.openai.errors import message_of

PREFIX = "/v1/messages"
"""Of the routes whose errors these are."""
NO_THREADS = "thread_unsupported_request"
"""Code of a conversation that the server was to hold; Anthropic's client sends all of it, when `details` tell it so."""
_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
}


def error_object(error: Exception) -> dict[str, object]:
    """The JSON of an error."""
    status = error.status if isinstance(error, RequestError) else 500
    told: dict[str, object] = {"type": _KINDS.get(status, "invalid_request_error"), "message": message_of(error)}
    if isinstance(error, RequestError) and error.code == NO_THREADS:
        told["details"] = {"error_code": NO_THREADS}
    return {"type": "error", "error": told}
