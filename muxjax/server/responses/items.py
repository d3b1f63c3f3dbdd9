"""Items that a response is given, as messages of a chat."""

from collections.abc import Iterable, Iterator
from typing import Any

from muxjax.server.openai.fields import Fields, show

Json = dict[str, Any]
_ROLES = ("user", "assistant", "system", "developer")
_TEXTS = ("input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text")


def read_items(fields: Fields) -> list[Fields]:
    """The input: a text is what the user says.

    Raises:
      RequestError: neither a text nor a list of items.
    """
    value = fields.required("input")
    if isinstance(value, str):
        return [Fields({"type": "message", "role": "user", "content": value}, "input")]
    if not isinstance(value, list) or not value:
        raise fields.error("input", f"must be a string or a list of at least one item, got {show(value)}")
    return fields.objects("input")


def messages_of(items: Iterable[Fields]) -> list[Json]:
    """A chat's messages: the reasoning, text and calls of one turn are one message of the assistant.

    Raises:
      RequestError: an item is not what it must be, or is of a kind that is not served.
    """
    turns: list[Json] = []
    for item in items:
        for message in _converted(item):
            last = turns[-1] if turns else {}
            if message["role"] == "assistant" == last.get("role") and not (last.get("content") and message.get("content")):
                turns[-1] = _merged(last, message)
            else:
                turns.append(message)
    return [{"content": None, **turn} if turn.get("tool_calls") else {"content": "", **turn} for turn in turns]


def _converted(item: Fields) -> Iterator[Json]:
    kind = item.get("type")
    if kind == "function_call":
        function = {"name": item.required_text("name"), "arguments": item.required_text("arguments")}
        call = {"id": item.required_text("call_id"), "type": "function", "function": function}
        yield {"role": "assistant", "tool_calls": [call]}
    elif kind == "function_call_output":
        yield {"role": "tool", "tool_call_id": item.required_text("call_id"), "content": _content(item, "output")}
    elif kind == "reasoning":
        name = "content" if item.get("content") else "summary"
        if item.get(name):
            yield {"role": "assistant", "reasoning_content": _content(item, name)}
    elif kind in (None, "message"):
        yield _message(item)
    else:
        raise item.error("type", f"is not supported, got {show(kind)}", code="unsupported_value")


def _message(item: Fields) -> Json:
    role = item.get("role")
    if role not in _ROLES:
        raise item.error("role", f"must be one of {', '.join(_ROLES)}, got {show(role)}")
    return {"role": role, "content": _content(item, "content")}


def _content(item: Fields, name: str) -> str:
    """A text, or the texts of parts."""
    value = item.required(name)
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise item.error(name, f"must be a string or a list of parts, got {show(value)}")
    return "".join(_part(part) for part in item.objects(name))


def _part(part: Fields) -> str:
    kind = part.get("type")
    if kind not in _TEXTS:
        raise part.error("type", f"is not supported, got {show(kind)}", code="unsupported_value")
    return part.required_text("refusal" if kind == "refusal" else "text")


def _merged(turn: Json, more: Json) -> Json:
    """Both as one message."""
    calls = [*turn.get("tool_calls", ()), *more.get("tool_calls", ())]
    reasoning = "\n".join(text for one in (turn, more) if (text := one.get("reasoning_content")))
    content = turn.get("content") or more.get("content")
    told = {"role": "assistant", "content": content, "tool_calls": calls, "reasoning_content": reasoning}
    return {name: value for name, value in told.items() if value}
