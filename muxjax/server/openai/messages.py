"""Chat messages of a client, checked, as chat templates expect them."""

import json
from typing import Any

from muxjax.errors import RequestError
from muxjax.server.openai.fields import Fields, show

_ROLES = ("system", "developer", "user", "assistant", "tool")


def read_messages(fields: Fields) -> list[dict[str, Any]]:
    """Messages in the client's order: content as a string or parts, calls with arguments as they were sent, and whatever else there is.

    Raises:
      RequestError: no messages, or one whose role, content or calls are not what they must be.
    """
    value = fields.required("messages")
    if not isinstance(value, list) or not value:
        raise fields.error("messages", f"must be a list of at least one message, got {show(value)}")
    return [_message(message) for message in fields.objects("messages")]


def _message(message: Fields) -> dict[str, Any]:
    """A message without nulls and an empty list of calls: templates ask only whether a key is there."""
    if message.get("role") not in _ROLES:
        raise message.error("role", f"must be one of {', '.join(_ROLES)}, got {show(message.get('role'))}")
    calls = [_call(call) for call in message.objects("tool_calls")]
    if calls and message.get("role") != "assistant":
        raise message.error("tool_calls", "are the assistant's")
    _check_content(message, optional=bool(calls))
    checked = {**message.raw, "tool_calls": calls or None}
    return {name: value for name, value in checked.items() if value is not None}


def _check_content(message: Fields, *, optional: bool) -> None:
    """A string, or parts of type text."""
    if optional and message.get("content") is None:
        return
    value = message.required("content")
    if not isinstance(value, str | list):
        raise message.error("content", f"must be a string or a list of text parts, got {show(value)}")
    for part in value if isinstance(value, list) else ():
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise message.error("content", f'must have parts {{"type": "text", "text": ...}} only, got {show(part)}')


def _call(call: Fields) -> dict[str, Any]:
    function = call.required_object("function")
    if not isinstance(function.required("name"), str):
        raise function.error("name", f"must be a string, got {show(function.get('name'))}")
    checked = {**call.raw, "function": {**function.raw, "arguments": _arguments(function)}}
    return {**checked, "type": checked.get("type") or "function"}


def _arguments(function: Fields) -> str | dict[str, Any]:
    """As the client sends them: the JSON that it was given, or an object. `ContentForms` makes of them what the template takes."""
    value = function.get("arguments") or "{}"
    try:
        read = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise function.error("arguments", f"are no JSON: {str(error)[:200]}") from error
    if not isinstance(read, dict):
        raise function.error("arguments", f"must be the JSON of an object, got {show(read)}")
    return value


def is_continued(fields: Fields, messages: list[dict[str, Any]]) -> bool:
    """Whether the answer goes on with the last message.

    Raises:
      RequestError: that is the user's, or an answer of its own is asked for as well.
    """
    if not fields.flag("continue_final_message"):
        return False
    if fields.flag("add_generation_prompt", False):
        raise fields.error("continue_final_message", "needs add_generation_prompt to be false")
    if messages[-1]["role"] != "assistant":
        raise RequestError("continue_final_message needs the last message to be the assistant's", param="continue_final_message")
    return True
