"""`functions` and `function_call`, which tools have replaced: chats that use them, in the words of tools."""

from collections.abc import Mapping
from typing import Any

from muxjax.server.openai.fields import Fields, show

LEGACY_NAMES = {"tools": "functions", "tool_choice": "function_call"}
"""What a client of functions calls the fields that are made of them."""


def is_legacy(body: Mapping[str, Any]) -> bool:
    """The answer is to call functions as it was before there were tools."""
    return bool(body.get("functions"))


def modern(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body with tools in place of functions; one without functions as it is.

    Raises:
      RequestError: functions are not what they must be, or there are tools as well.
    """
    changed = _with_messages(body)
    if not is_legacy(body):
        return changed
    fields = Fields(body)
    if body.get("tools") is not None:
        raise fields.error("functions", "cannot be given together with tools, which have replaced them")
    tools = [{"type": "function", "function": function.raw} for function in fields.objects("functions")]
    rest = {name: value for name, value in changed.items() if name not in ("functions", "function_call")}
    return {**rest, "tools": tools, "tool_choice": _choice(fields), "parallel_tool_calls": False}


def _choice(fields: Fields) -> Any:
    choice = fields.get("function_call")
    if choice in (None, "none", "auto"):
        return choice
    if not isinstance(choice, dict) or not isinstance(choice.get("name"), str):
        raise fields.error("function_call", f'must be none, auto or {{"name": ...}}, got {show(choice)}')
    return {"type": "function", "function": {"name": choice["name"]}}


def _with_messages(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body with messages in which calls and results have ids, by which templates bring them together."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not any(map(_is_old, messages)):
        return body
    changed, calls = [], 0
    for message in messages:
        if not _is_old(message):
            changed.append(message)
        elif message.get("role") == "function":
            changed.append({**message, "role": "tool", "tool_call_id": f"call_{calls}"})
        else:
            calls += 1
            call = {"id": f"call_{calls}", "type": "function", "function": message["function_call"]}
            rest = {name: value for name, value in message.items() if name != "function_call"}
            changed.append({**rest, "tool_calls": [call]})
    return {**body, "messages": changed}


def _is_old(message: Any) -> bool:
    return isinstance(message, dict) and (message.get("role") == "function" or bool(message.get("function_call")))
