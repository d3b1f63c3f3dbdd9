"""Forms of a message's content that a chat template was written for, found by showing it messages of each."""

import enum
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Message = Mapping[str, Any]
Render = Callable[[Sequence[Message], Mapping[str, Any]], str | None]
"""A template's text of messages and other variables; None where it refuses them."""

_WORDS = ["71490", "28653"]  # digits, which no filter of a template changes
_NAME = f"f{_WORDS[0]}"
_TOOL = {"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}}}
_MORE: tuple[Mapping[str, Any], ...] = ({}, {"tools": [_TOOL], "documents": [{"title": "t", "text": "t"}]})
_CALL = {"id": "abcdefghi", "type": "function", "function": {"name": _NAME, "arguments": {}}}
_MARK = "55812"  # comes out where a template shows a part's code in place of its text

_log = logging.getLogger(__name__)


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


class NoContent(enum.Enum):
    """How a message says that it has nothing but calls of tools."""

    MISSING = "missing"
    NULL = "null"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentForms:
    """What a template takes.

    Args:
      roles: those of messages with such a role; of any other as of a user.
      no_content: of a message that has calls of tools alone.
    """

    roles: Mapping[str, Form] = field(default_factory=dict)
    no_content: NoContent = NoContent.EMPTY

    def message(self, message: Message) -> dict[str, Any]:
        """The message as the template takes it."""
        form = self.roles.get(str(message["role"]), self.roles.get("user", Form.TEXT))
        if "content" in message:
            return {name: form.of(value) if name == "content" else value for name, value in message.items()}
        filled = {NoContent.MISSING: {}, NoContent.NULL: {"content": None}, NoContent.EMPTY: {"content": form.of("")}}
        return {**message, **filled[self.no_content]}


def read_forms(render: Render) -> ContentForms:
    """The forms under which the template shows what it is given; as transformers hands them over where several do."""
    forms = ContentForms()
    for role in ("user", "system", "assistant", "tool"):
        form = _form(render, role, forms)
        if form is not None:
            forms = ContentForms(roles={**forms.roles, role: form})
    return ContentForms(roles=forms.roles, no_content=_no_content(render, forms))


def _form(render: Render, role: str, forms: ContentForms) -> Form | None:
    """None where the template shows no content of this role."""
    parts = [{"type": "text", "text": word, _MARK: True} for word in _WORDS]
    text, many = _is_shown(render, role, "".join(_WORDS), forms), _is_shown(render, role, parts, forms)
    if text:
        return Form.EITHER if many else Form.TEXT
    if many:
        return Form.PARTS
    return Form.ONE_PART if _is_shown(render, role, parts[:1], forms) else None


def _is_shown(render: Render, role: str, content: str | Sequence[Message], forms: ContentForms) -> bool:
    """Whether the words of the content come out, and not its code."""
    words = _WORDS[: len(content)]
    texts = (render(messages, more) for messages, more in itertools.product(_conversations(role, content, forms), _MORE))
    return any(text and _MARK not in text and all(word in text for word in words) for text in texts)


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
    return [[shown]]


def _no_content(render: Render, forms: ContentForms) -> NoContent:
    """The first under which the call is shown, or else under which the template does not fail."""
    user = forms.message({"role": "user", "content": "Hi."})
    call: Message = {"role": "assistant", "tool_calls": [_CALL]}
    texts = {}
    for kind in NoContent:
        message = ContentForms(roles=forms.roles, no_content=kind).message(call)
        texts[kind] = [render([user, message, *more], extra) for more in ([], [user]) for extra in _MORE]
    shown = [kind for kind in NoContent if any(_NAME in (text or "") for text in texts[kind])]
    passed = [kind for kind in (NoContent.MISSING, NoContent.EMPTY) if any(text is not None for text in texts[kind])]
    return (*shown, *passed, NoContent.EMPTY)[0]
