"""A body of Anthropic's Messages as the body of a chat."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from muxjax.errors import RequestError
from muxjax.server.answers.renamed import renamed
from muxjax.server.anthropic.errors import NO_THREADS
from muxjax.server.catalog import Catalog
from muxjax.server.generation import Generation, Stamp
from muxjax.server.openai.fields import Fields, show
from muxjax.server.openai.schema import parse_chat

Json = dict[str, Any]
_NAMES = {
    "max_completion_tokens": "max_tokens",
    "stop": "stop_sequences",
    "response_format.json_schema.schema": "output_config.format.schema",
    "response_format": "output_config.format",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_OWN = frozenset(
    ("system", "messages", "max_tokens", "stop_sequences", "tools", "tool_choice", "thinking", "output_config", "output_format", "n")
) | frozenset(("max_completion_tokens", "stream_options", "response_format", "parallel_tool_calls"))
"""Fields that are read here, or that are none of a message's."""


def parse_message(body: Mapping[str, Any], catalog: Catalog, stamp: Stamp, *, counted: bool = False) -> Generation:
    """The generation that a body of /v1/messages asks for.

    Args:
      counted: only its prompt's tokens are to be counted, so that it need not say how many the answer may have.
    Raises:
      RequestError: with the name of the client's field.
    """
    chat = chat_body(body, counted=counted)
    try:
        return parse_chat(chat, catalog, stamp)
    except RequestError as error:
        raise renamed(error, _NAMES) from error


def chat_body(body: Mapping[str, Any], *, counted: bool = False) -> Json:
    """The same as a chat; fields that are not Anthropic's are left as they are.

    Raises:
      RequestError: a field is not what it must be, or asks for what is not there.
    """
    fields = Fields(body)
    if fields.get("thread") is not None:
        raise fields.error("thread", "is not supported here: send all messages of the conversation", code=NO_THREADS)
    if not counted:
        fields.required("max_tokens")
    messages = [*_system(fields), *(one for message in _messages(fields) for one in _converted(message))]
    choice = fields.object("tool_choice")
    rest = {name: value for name, value in body.items() if name not in _OWN}
    translated = {
        "messages": messages,
        "max_completion_tokens": None if counted else fields.get("max_tokens"),
        "stop": fields.get("stop_sequences"),
        "tools": [_tool(tool) for tool in fields.objects("tools")] or None,
        "tool_choice": _tool_choice(choice) if choice else None,
        "parallel_tool_calls": not choice.flag("disable_parallel_tool_use") if choice else None,
        "response_format": _format(fields),
        "chat_template_kwargs": _thinking(fields, body.get("chat_template_kwargs")),
    }
    resumed = {"continue_final_message": True, "add_generation_prompt": False} if messages[-1]["role"] == "assistant" else {}
    return rest | {name: value for name, value in translated.items() if value is not None} | resumed


def _system(fields: Fields) -> Iterator[Json]:
    value = fields.get("system")
    if isinstance(value, list):
        value = "\n\n".join(_text(block) for block in fields.objects("system"))
    if value is not None and not isinstance(value, str):
        raise fields.error("system", f"must be a string or a list of text blocks, got {show(value)}")
    if value:
        yield {"role": "system", "content": value}


def _messages(fields: Fields) -> list[Fields]:
    fields.required("messages")
    found = fields.objects("messages")
    if not found:
        raise fields.error("messages", "must be a list of at least one message")
    return found


def _converted(message: Fields) -> Iterator[Json]:
    """A chat's messages: results of tools are ones of their own, before what their user says."""
    role, content = message.get("role"), message.required("content")
    if role not in ("user", "assistant", "system"):
        raise message.error("role", f"must be user or assistant, got {show(role)}")
    if isinstance(content, str):
        yield {"role": role, "content": content}
        return
    if not isinstance(content, list):
        raise message.error("content", f"must be a string or a list of blocks, got {show(content)}")
    blocks = message.objects("content")
    yield from _assistant(blocks) if role == "assistant" else _user(role, blocks)


def _assistant(blocks: list[Fields]) -> Iterator[Json]:
    text, thinking, calls = "", "", []
    for block in blocks:
        kind = block.get("type")
        if kind == "tool_use":
            calls.append(_call(block))
        elif kind == "thinking":
            thinking += block.text("thinking") or ""
        elif kind != "redacted_thinking":
            text += _text(block)
    told: Json = {"role": "assistant", "content": text if text or not calls else None}
    yield told | ({"tool_calls": calls} if calls else {}) | ({"reasoning_content": thinking} if thinking else {})


def _user(role: str, blocks: list[Fields]) -> Iterator[Json]:
    texts = []
    for block in blocks:
        if block.get("type") == "tool_result":
            yield {"role": "tool", "tool_call_id": block.required_text("tool_use_id"), "content": _result(block)}
        else:
            texts.append(_text(block))
    if texts or not blocks:
        yield {"role": role, "content": "\n\n".join(texts)}


def _result(block: Fields) -> str:
    content = block.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(_text(one) for one in block.objects("content"))


def _call(block: Fields) -> Json:
    arguments = block.required_object("input").raw
    function = {"name": block.required_text("name"), "arguments": json.dumps(arguments)}
    return {"id": block.required_text("id"), "type": "function", "function": function}


def _text(block: Fields) -> str:
    """Text of a block.

    Raises:
      RequestError: it has none: an image, a document, a call out of its place.
    """
    if block.get("type") != "text":
        raise block.error("type", f"is not supported here, got {show(block.get('type'))}", code="unsupported_value")
    return block.required_text("text")


def _tool(tool: Fields) -> Json:
    """Raises RequestError: one that is Anthropic's own, and not described here."""
    if tool.get("type") not in (None, "custom"):
        raise tool.error("type", f"must be custom, got {show(tool.get('type'))}", code="unsupported_value")
    function: Json = {"name": tool.required("name"), "parameters": tool.required_object("input_schema").raw}
    description = tool.text("description")
    return {"type": "function", "function": function | ({"description": description} if description else {})}


def _tool_choice(choice: Fields) -> Any:
    kind = choice.required("type")
    if kind == "tool":
        return {"type": "function", "function": {"name": choice.required_text("name")}}
    if not isinstance(kind, str) or kind not in _CHOICES:
        raise choice.error("type", f"must be one of {', '.join(_CHOICES)}, tool, got {show(kind)}")
    return _CHOICES[kind]


def _format(fields: Fields) -> Json | None:
    """The form of the answer, under its name of today or that of its trial."""
    config = fields.object("output_config")
    form = (config.object("format") if config else None) or fields.object("output_format")
    if form is None:
        return None
    if form.get("type") != "json_schema":
        raise form.error("type", f"must be json_schema, got {show(form.get('type'))}")
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": form.required_object("schema").raw, "strict": True}}


def _thinking(fields: Fields, extra: Any) -> Any:
    """What the template is told; what else it is told goes before."""
    thinking = fields.object("thinking")
    kind = thinking.get("type") if thinking else None
    if thinking and kind not in ("enabled", "disabled", "adaptive"):
        raise thinking.error("type", f"must be enabled, disabled or adaptive, got {show(kind)}")
    if kind not in ("enabled", "disabled") or not isinstance(extra, dict | None):
        return extra
    return {"enable_thinking": kind == "enabled", **(extra or {})}
