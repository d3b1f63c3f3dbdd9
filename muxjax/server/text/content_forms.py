"""Forms of a message's content and calls that a chat template was written for, found by showing it messages of each."""

import enum
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Message = Mapping[str, Any]
Render = Callable[[Sequence[Message], Mapping[str, Any]], str | None]
"""A template's text of messages and other variables; None where it refuses them."""

_WORDS = ["71490", "28653"]  # digits, which no filter of a template changes
_NAME = f"f{_WORDS[0]}"
_TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}},
}
_MORE: tuple[Mapping[str, Any], ...] = ({}, {"tools": [_TOOL], "documents": [{"title": "t", "text": "t"}]})
_ARGUMENT = f"a{_WORDS[0]}"
_CALL = {"id": "abcdefghi", "type": "function", "function": {"name": _NAME, "arguments": {_ARGUMENT: _WORDS[1]}}}
_SHORT_ID = re.compile("[a-zA-Z0-9]{9}")
_MARK = "55812"  # comes out where a template shows a part's code in place of its text


class Form(enum.Enum):
    """What a template makes of a message's content."""

    TEXT = "text"
    PARTS = "parts"
    ONE_PART = "one part"
    EITHER = "either"

    def of(self, content: str | Sequence[Message]) -> str | Sequence[Message]:
        """The content as the template takes it."""
        if self is Form.EITHER or (self is Form.PARTS and not isinstance(content, str)):
            return content
        text = content if isinstance(content, str) else "".join(part["text"] for part in content)
        return text if self is Form.TEXT else [{"type": "text", "text": text}]


class Arguments(enum.Enum):
    """What a template makes of the arguments of a call."""

    OBJECT = "object"
    JSON = "json"

    def of(self, arguments: str | Mapping[str, Any]) -> str | Mapping[str, Any]:
        """The arguments as the template takes them; JSON that a client has sent stays as it was."""
        if self is Arguments.OBJECT:
            return json.loads(arguments) if isinstance(arguments, str) else arguments
        return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


class NoContent(enum.Enum):
    """How a message says that it has nothing but calls of tools."""

    MISSING = "missing"
    NULL = "null"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentForms:
    """What a template takes.

    Args:
      roles: those of messages with such a role; of any other as of a user. What nobody could find out stays as a client sends it.
      no_content: of a message that has calls of tools alone.
      arguments: of those calls.
      short_ids: calls have ids of nine letters and digits, as templates of Mistral's models demand.
    """

    roles: Mapping[str, Form] = field(default_factory=dict)
    no_content: NoContent = NoContent.EMPTY
    arguments: Arguments = Arguments.OBJECT
    short_ids: bool = False

    def message(self, message: Message) -> dict[str, Any]:
        """The message as the template takes it."""
        form = self.roles.get(str(message["role"]), self.roles.get("user", Form.EITHER))
        if message.get("tool_calls"):
            message = {**message, "tool_calls": [self._call(call) for call in message["tool_calls"]]}
        if self.short_ids and isinstance(message.get("tool_call_id"), str):
            message = {**message, "tool_call_id": _shortened(message["tool_call_id"])}
        if "content" in message:
            return {name: form.of(value) if name == "content" else value for name, value in message.items()}
        filled = {NoContent.MISSING: {}, NoContent.NULL: {"content": None}, NoContent.EMPTY: {"content": form.of("")}}
        return {**message, **filled[self.no_content]}

    def _call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        function = call["function"]
        if self.short_ids and isinstance(call.get("id"), str):
            call = {**call, "id": _shortened(call["id"])}
        return {**call, "function": {**function, "arguments": self.arguments.of(function["arguments"])}}


def _shortened(id: str) -> str:
    """The same for the same id, so that a result finds its call."""
    return id if _SHORT_ID.fullmatch(id) else hashlib.sha256(id.encode(errors="surrogatepass")).hexdigest()[:9]


def read_forms(render: Render) -> ContentForms:
    """The forms under which the template shows what it is given; as transformers hands them over where several do."""
    forms = ContentForms()
    for role in ("user", "system", "assistant", "tool"):
        form = _form(render, role, forms)
        if form is not None:
            forms = ContentForms(roles={**forms.roles, role: form})
    return _with_calls(render, forms)


def _form(render: Render, role: str, forms: ContentForms) -> Form | None:
    """None where the template shows no content of this role."""
    parts = [{"type": "text", "text": word, _MARK: True} for word in _WORDS]
    text, many = _is_shown(render, role, "".join(_WORDS), forms), _is_shown(render, role, parts, forms)
    if text:
        return Form.EITHER if many else Form.TEXT
    if many:
        return Form.PARTS
    if _is_shown(render, role, parts[:1], forms):
        return Form.ONE_PART
    return Form.TEXT if any(_MARK in text for text in _texts(render, role, parts, forms)) else None  # code comes out of parts


def _is_shown(render: Render, role: str, content: str | Sequence[Message], forms: ContentForms) -> bool:
    """Whether the words of the content come out, and not its code."""
    words = _WORDS[: len(content)]
    return any(_MARK not in text and all(word in text for word in words) for text in _texts(render, role, content, forms))


def _texts(render: Render, role: str, content: str | Sequence[Message], forms: ContentForms) -> Iterator[str]:
    """What the template makes of conversations with such a message."""
    for messages, more in itertools.product(_conversations(role, content, forms), _MORE):
        if text := render(messages, more):
            yield text


def _conversations(role: str, content: str | Sequence[Message], forms: ContentForms) -> list[list[Message]]:
    """Those in which a message of the role may stand, as templates want roles to alternate."""
    user = forms.message({"role": "user", "content": "Hi."})
    shown: Message = {"role": role, "content": content}
    if role == "system":
        return [[shown, user], [shown]]
    if role == "assistant":
        return [[user, shown], [user, shown, user]]
    if role == "tool":
        result = {**shown, "name": _NAME, "tool_call_id": _CALL["id"]}
        calls = [{"role": "assistant", "tool_calls": [_CALL], **nothing} for nothing in ({}, {"content": None}, {"content": ""})]
        return [[user, call, result] for call in calls]
    system: Message = {"role": "system", "content": "You help."}
    parts: Message = {"role": "system", "content": [{"type": "text", "text": "You help."}]}
    return [[shown], [system, shown], [parts, shown], [shown, {"role": "assistant", "content": "Yes."}, shown]]


def _with_calls(render: Render, forms: ContentForms) -> ContentForms:
    """The first forms under which a call is shown with its arguments, or else with its name, or else under which nothing fails."""
    user = forms.message({"role": "user", "content": "Hi."})
    call: Message = {"role": "assistant", "tool_calls": [_CALL]}
    tried: list[tuple[ContentForms, list[str | None]]] = []
    for arguments, kind in itertools.product(Arguments, NoContent):
        with_calls = replace(forms, arguments=arguments, no_content=kind)
        message = with_calls.message(call)
        tried.append((with_calls, [render([user, message, *more], extra) for more in ([], [user]) for extra in _MORE]))
    complete = [each for each, texts in tried if any(map(_shows_arguments, texts))]
    named = [each for each, texts in tried if any(_NAME in (text or "") for text in texts)]
    passed = [each for each, texts in tried if each.no_content is not NoContent.NULL and any(text is not None for text in texts)]
    chosen = (*complete, *named, *passed, forms)[0]
    return replace(chosen, short_ids=not _takes_id(render, chosen, "call_0123456789") and _takes_id(render, chosen, _CALL["id"]))


def shows_tools(render: Render, forms: ContentForms) -> bool:
    """Whether a chat's tools come out."""
    offered = {**_TOOL, "function": {**_TOOL["function"], "name": _NAME}}
    asked = forms.message({"role": "user", "content": "Hi."})["content"]
    return any(_NAME in (render(chat, {"tools": [offered]}) or "") for chat in _conversations("user", asked, forms))


def _takes_id(render: Render, forms: ContentForms, id: str) -> bool:
    """Whether a call and its result with that id are rendered."""
    messages: list[Message] = [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "tool_calls": [{**_CALL, "id": id}]},
        {"role": "tool", "content": "Yes.", "tool_call_id": id, "name": _NAME},
    ]
    return any(render([forms.message(message) for message in messages], extra) is not None for extra in _MORE)


def _shows_arguments(text: str | None) -> bool:
    """Name and arguments are there, and not as Python writes an object, nor as a text within a text."""
    python, escaped = f"'{_ARGUMENT}'", f'\\"{_ARGUMENT}'
    return bool(text) and all(word in text for word in (_NAME, _ARGUMENT, _WORDS[1])) and python not in text and escaped not in text
