"""Errors as Ollama's error objects."""

from muxjax.server.openai.errors import message_of

PREFIX = "/api/"
"""Of the routes whose errors these are."""


def error_object(error: Exception) -> dict[str, object]:
    """The JSON of an error."""
    return {"error": message_of(error)}
