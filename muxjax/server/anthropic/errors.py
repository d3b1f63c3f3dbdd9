"""Errors as Anthropic's error objects."""

from muxjax.errors import RequestError
from muxjax.server.openai.errors import message_of

PREFIX = "/v1/messages"
"""Of the routes whose errors these are."""
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
    return {"type": "error", "error": {"type": _KINDS.get(status, "invalid_request_error"), "message": message_of(error)}}
