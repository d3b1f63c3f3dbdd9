"""Chat messages of a client, checked, with their text in one piece."""

from typing import Any

from muxjax.errors import RequestError
from muxjax.server.fields import Fields, show
from muxjax.server.unsupported import refuse_message_extras

_ROLES = ("system", "developer", "user", "assistant", "tool")


def read_messages(fields: Fields) -> list[dict[str, Any]]:
    """What a chat template gets: role, content as one string, and whatever else a message carries.

    Raises:
      RequestError: no messages, or one whose role or content is not what it must be.
    """
    value = fields.required("messages")
    if not isinstance(value, list) or not value:
        raise fields.error("messages", f"must be a list of at least one message, got {show(value)}")
    return [_message(message, f"messages[{place}]") for place, message in enumerate(value)]


def _message(value: object, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(f"{at} must be an object, got {show(value)}", param=at)
    message = Fields(value, at)
    refuse_message_extras(message)
    if message.get("role") not in _ROLES:
        raise message.error("role", f"must be one of {', '.join(_ROLES)}, got {show(message.get('role'))}")
    return {**value, "content": _content(message)}


def _content(message: Fields) -> str:
    """A string, or parts of type text."""
    value = message.required("content")
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise message.error("content", f"must be a string or a list of text parts, got {show(value)}")
    return "".join(_part(message, part) for part in value)


def _part(message: Fields, part: object) -> str:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise message.error("content", f'must have parts {{"type": "text", "text": ...}} only, got {show(part)}')
    return part["text"]
