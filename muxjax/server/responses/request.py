"""A body of OpenAI's Responses as the body of a chat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muxjax.errors import RequestError
from muxjax.server.answers.renamed import renamed
from muxjax.server.catalog import Catalog
from muxjax.server.generation import Generation, Stamp
from muxjax.server.json_schema.size import characters
from muxjax.server.openai.fields import Fields, show
from muxjax.server.openai.schema import parse_chat
from muxjax.server.responses.items import messages_of, read_items
from muxjax.server.responses.store import ResponseStore, Stored, listed

Json = dict[str, Any]
LOGPROBS = "message.output_text.logprobs"
_NAMES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "logprobs": "include",
}
_REFUSED = ("prompt", "conversation", "context_management")
_ECHOED: dict[str, object] = {
    **{"instructions": None, "max_output_tokens": None, "max_tool_calls": None, "metadata": {}, "parallel_tool_calls": True},
    **{"previous_response_id": None, "prompt_cache_key": None, "reasoning": {"effort": None, "summary": None}, "safety_identifier": None},
    **{"service_tier": "default", "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": []},
    **{"top_logprobs": 0, "top_p": 1.0, "truncation": "disabled", "user": None, "background": False, "store": True},
}
"""Fields that a response repeats, with what they are where the client says nothing."""
_MOST_ECHOED = 2**19
"""Characters of one of them: a response says them again whenever it is told. Instructions are bounded as prompts are."""
_OWN = frozenset(_ECHOED) - {"temperature", "top_p", "top_logprobs", "parallel_tool_calls"} | frozenset(
    (*_REFUSED, "input", "include", "stream_options", "n", "messages", "max_tokens", "max_completion_tokens", "response_format", "logprobs")
)
"""Fields that a chat is not told as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRequest:
    """What a client asks for.

    Args:
      chat: the same as a chat.
      echo: fields that the response repeats.
      items: JSON of the input's, with ids; messages: of the conversation so far, in the form of a chat, without instructions. Both are
        empty where nothing is kept.
      owner: name of its tenant.
      store: it is to be kept; background: the client does not wait for it.
    """

    chat: Json
    echo: Json
    items: bytes
    messages: bytes
    owner: str
    store: bool
    background: bool

    def kept(self, response: Json, answer: Sequence[Json]) -> Stored:
        """What is to be kept of it, with the messages that it answered."""
        told = listed(answer)
        messages = self.messages[:-1] + b"," + told[1:] if answer else self.messages
        return Stored.of(self.owner, response, self.items, messages)


def read_request(body: Mapping[str, Any], store: ResponseStore, stamp: Stamp) -> ResponseRequest:
    """Raises RequestError: a field is not what it must be, asks for what is not there, or names a response that is not kept."""
    fields = Fields(body)
    for name in _REFUSED:
        if fields.get(name) is not None:
            raise fields.error(name, f"is not supported, got {show(fields.get(name))}", code="unsupported_value")
    if fields.get("truncation") not in (None, "disabled"):
        raise fields.error("truncation", f"must be disabled, got {show(fields.get('truncation'))}", code="unsupported_value")
    fields.integer("n", 1, 1, 1)
    wanted = fields.flag("store", True)
    background = fields.flag("background")
    if background and not (wanted and store.keeps):
        raise fields.error("background", "needs a response that is stored, which store: false or the server's options forbid")
    if background and fields.flag("stream"):
        raise fields.error("background", "cannot be streamed: ask for the response until it is there", code="unsupported_value")
    metadata, items = fields.object("metadata"), read_items(fields)
    messages = [*_before(fields, store, stamp.tenant.name), *messages_of(items)]
    instructions = fields.text("instructions")
    kept = wanted and store.keeps
    with_ids = [_with_id(item.raw, f"{stamp.id}-{place}") for place, item in enumerate(items)]
    system = [{"role": "system", "content": instructions}] if instructions else []
    return ResponseRequest(
        chat=_chat(fields, [*system, *messages]),
        echo=_echo(fields, store=kept, metadata=metadata.raw if metadata else {}),
        items=listed(with_ids) if kept else b"",
        messages=listed(messages) if kept else b"",
        owner=stamp.tenant.name,
        store=kept,
        background=background,
    )


def parse_response(request: ResponseRequest, catalog: Catalog, stamp: Stamp) -> Generation:
    """Raises RequestError: with the name of the client's field."""
    try:
        return parse_chat(request.chat, catalog, stamp)
    except RequestError as error:
        raise renamed(error, _NAMES) from error


def _before(fields: Fields, store: ResponseStore, owner: str) -> Sequence[Json]:
    """The conversation that it goes on with."""
    previous = fields.text("previous_response_id")
    if previous is None:
        return ()
    if not store.keeps:
        raise fields.error("previous_response_id", "needs responses to be kept, and this server keeps none: send the whole input")
    stored = store.get(owner, previous, param="previous_response_id")
    if stored.status not in ("completed", "incomplete"):
        raise fields.error("previous_response_id", f"names a response that is {stored.status}")
    return stored.messages


def _chat(fields: Fields, messages: Sequence[Json]) -> Json:
    """Fields that are not the API's own are left as they are."""
    rest = {name: value for name, value in fields.raw.items() if name not in _OWN}
    reasoning = fields.object("reasoning")
    included = _included(fields)
    translated = {
        "messages": list(messages),
        "max_completion_tokens": fields.get("max_output_tokens"),
        "tools": [_tool(tool) for tool in fields.objects("tools")] or None,
        "tool_choice": _tool_choice(fields),
        "response_format": _format(fields),
        "reasoning_effort": reasoning.text("effort") if reasoning else None,
        "logprobs": True if LOGPROBS in included or fields.get("top_logprobs") else None,
    }
    return rest | {name: value for name, value in translated.items() if value is not None}


def _included(fields: Fields) -> Sequence[object]:
    """What else the client wants to hear, of which there is little: what is not there cannot be told."""
    value = fields.get("include")
    if not isinstance(value, list | None):
        raise fields.error("include", f"must be a list, got {show(value)}")
    return value or []


def _tool(tool: Fields) -> Json:
    if tool.get("type") != "function":
        raise tool.error("type", f"must be function, got {show(tool.get('type'))}", code="unsupported_value")
    names = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: value for name in names if (value := tool.get(name)) is not None}}


def _tool_choice(fields: Fields) -> Any:
    """A chat names functions one object deeper."""
    value = fields.get("tool_choice")
    if not isinstance(value, dict):
        return value
    choice = fields.required_object("tool_choice")
    if choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.required("name")}}
    if choice.get("type") == "allowed_tools":
        allowed = [{"type": "function", "function": {"name": tool.required("name")}} for tool in choice.objects("tools")]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.required("mode"), "tools": allowed}}
    raise choice.error("type", f"must be function or allowed_tools, got {show(choice.get('type'))}", code="unsupported_value")


def _format(fields: Fields) -> Json | None:
    text = fields.object("text")
    form = text.object("format") if text else None
    if form is None or form.get("type") != "json_schema":
        return None if form is None else dict(form.raw)
    return {"type": "json_schema", "json_schema": {name: value for name, value in form.raw.items() if name != "type"}}


def _echo(fields: Fields, *, store: bool, metadata: Mapping[str, Any]) -> Json:
    """Raises RequestError: it is too much to be said again."""
    said = {name: value for name in _ECHOED if (value := fields.raw.get(name)) is not None}
    for name, value in said.items():
        if name != "instructions" and characters(value, _MOST_ECHOED) > _MOST_ECHOED:
            raise fields.error(name, f"must have at most {_MOST_ECHOED} characters, for a response repeats it", code="invalid_value")
    told = {**_ECHOED, **said, "store": store, "metadata": dict(metadata)}
    told["text"] = {"format": {"type": "text"}, **told["text"]}
    return told


def _with_id(item: Mapping[str, Any], own: str) -> Json:
    kind = item.get("type") or "message"
    named = {**item, "type": kind, "id": item.get("id") or f"{kind}_{own}"}
    if kind == "message" and isinstance(named["content"], str):
        named["content"] = [{"type": "output_text" if named["role"] == "assistant" else "input_text", "text": named["content"]}]
    return named
