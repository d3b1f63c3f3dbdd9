"""Bodies of Ollama's /api/chat and /api/generate as bodies of OpenAI's."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from muxjax.errors import RequestError
from muxjax.server.answers.renamed import renamed
from muxjax.server.catalog import Catalog, ServedModel
from muxjax.server.generation import Generation, Stamp
from muxjax.server.openai.fields import Fields, show
from muxjax.server.openai.schema import parse_chat, parse_completion

Json = dict[str, Any]
_OPTIONS = {name: name for name in ("temperature", "top_p", "top_k", "min_p", "seed", "stop", "presence_penalty", "frequency_penalty")}
_OPTIONS |= {"repeat_penalty": "repetition_penalty"}
_NAMES = {ours: f"options.{theirs}" for theirs, ours in _OPTIONS.items()}
_NAMES |= {"max_completion_tokens": "options.num_predict", "max_tokens": "options.num_predict"}
_NAMES |= {"response_format.json_schema.schema": "format", "response_format": "format"}
_LATEST = ":latest"


def parse(body: Mapping[str, Any], catalog: Catalog, stamp: Stamp, *, chat: bool) -> Generation:
    """The generation that a body of /api/chat asks for, or one of /api/generate.

    Raises:
      RequestError: with the name of the client's field.
    """
    fields = Fields(body)
    model = model_of(fields, catalog)
    common = {"model": model.name, "stream": fields.flag("stream", True), **_sampling(fields), **_format(fields)}
    try:
        if chat:
            return parse_chat({**common, **_chat(fields)}, catalog, stamp)
        _refuse(fields, "suffix", "template", "images")
        if fields.flag("raw") or model.template is None:
            length = common.pop("max_completion_tokens", model.max_model_len)
            return parse_completion({**common, "prompt": fields.text("prompt") or "", "max_tokens": length}, catalog, stamp)
        return parse_chat({**common, "messages": _told(fields), **_thinking(fields)}, catalog, stamp)
    except RequestError as error:
        raise renamed(error, _NAMES) from error


def model_of(fields: Fields, catalog: Catalog) -> ServedModel:
    """The model of that name, to which Ollama's clients may add a tag.

    Raises:
      RequestError: there is none (404), or none is named (400).
    """
    name = fields.text("model") or fields.text("name")
    plain = name.removesuffix(_LATEST) if name and name not in dict(catalog.names()) else name
    return catalog.find(plain)


def asks_nothing(body: Mapping[str, Any]) -> bool:
    """Nothing is to be answered: the model is to be there, for what comes."""
    return not body.get("prompt") and not body.get("messages")


def _sampling(fields: Fields) -> Json:
    """Options by OpenAI's names; one that is not known is left under its own, to be told in the log."""
    options = fields.object("options")
    if options is None:
        return {}
    most = options.integer("num_predict", None, -2, 2**31 - 1)
    length = {"max_completion_tokens": most} if most is not None and most > 0 else {}
    given = {name: value for name, value in options.raw.items() if name != "num_predict"}
    return length | {_OPTIONS.get(name, f"options.{name}"): value for name, value in given.items()}


def _format(fields: Fields) -> Json:
    """Raises RequestError: neither json nor a schema."""
    form = fields.get("format")
    if form is None or form == "":
        return {}
    if form == "json":
        return {"response_format": {"type": "json_object"}}
    if not isinstance(form, dict):
        raise fields.error("format", f'must be "json" or a JSON schema, got {show(form)}')
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": form}}}


def _chat(fields: Fields) -> Json:
    fields.required("messages")
    tools = fields.get("tools")
    return {"messages": list(_messages(fields.objects("messages"))), **({"tools": tools} if tools else {}), **_thinking(fields)}


def _messages(messages: list[Fields]) -> Iterator[Json]:
    """A chat's messages; calls of tools have no ids in Ollama's, and their results come in their order."""
    open_calls: list[tuple[str, str]] = []
    for place, message in enumerate(messages):
        _refuse(message, "images")
        role, content = message.get("role"), message.text("content") or ""
        calls = [_call(call, f"call_{place}_{i}") for i, call in enumerate(message.objects("tool_calls"))]
        open_calls += [(call["function"]["name"], call["id"]) for call in calls]
        told: Json = {"role": role, "content": content} | ({"tool_calls": calls} if calls else {})
        if thinking := message.text("thinking"):
            told["reasoning_content"] = thinking
        if role == "tool":
            told["tool_call_id"] = _answered(open_calls, message.text("tool_name"))
        yield told


def _call(call: Fields, own: str) -> Json:
    function = call.required_object("function")
    arguments = function.object("arguments")
    return {
        "id": own,
        "type": "function",
        "function": {"name": function.required("name"), "arguments": json.dumps(arguments.raw if arguments else {})},
    }


def _answered(open_calls: list[tuple[str, str]], name: str | None) -> str:
    """Id of the call that a result is of: the first one open of that name, or the first one."""
    place = next((i for i, (called, _) in enumerate(open_calls) if called == name), 0)
    return open_calls.pop(place)[1] if open_calls else "call_0"


def _told(fields: Fields) -> list[Json]:
    """Messages of a prompt."""
    system = fields.text("system")
    prompt: Json = {"role": "user", "content": fields.text("prompt") or ""}
    return [*([{"role": "system", "content": system}] if system else []), prompt]


def _thinking(fields: Fields) -> Json:
    """What the template is told."""
    think = fields.get("think")
    return {} if think is None else {"chat_template_kwargs": {"enable_thinking": bool(think)}}


def _refuse(fields: Fields, *names: str) -> None:
    """Raises RequestError: a field asks for what is not there."""
    for name in names:
        if fields.get(name):
            raise fields.error(name, f"is not supported, got {show(fields.get(name))}", code="unsupported_value")
