"""A chat's `tool_choice`: whether a tool may or must be called, and which."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from muxjax.server.openai.fields import Fields, show

_FORMS = 'none, auto, required, {"type": "function", "function": {"name": ...}} or {"type": "allowed_tools", "allowed_tools": ...}'


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """Which tools an answer may call.

    Args:
      must_call: it is not left to the model.
      allowed: names of those that may be called; None for all.
      named: the one that must be called.
    """

    must_call: bool = False
    allowed: frozenset[str] | None = None
    named: str | None = None

    def allows(self, name: str) -> bool:
        return (self.allowed is None or name in self.allowed) and (self.named is None or name == self.named)


NOTHING = ToolChoice(allowed=frozenset())


def read_choice(fields: Fields) -> ToolChoice:
    """The choice; `auto` where there is none.

    Raises:
      RequestError: it is none that there is.
    """
    choice = fields.get("tool_choice")
    if choice in (None, "auto"):
        return ToolChoice()
    if choice == "none":
        return NOTHING
    if choice == "required":
        return ToolChoice(must_call=True)
    if not isinstance(choice, dict):
        raise fields.error("tool_choice", f"must be {_FORMS}, got {show(choice)}")
    if choice.get("type") == "allowed_tools":
        return _allowed(Fields(choice, fields.where("tool_choice")))
    name = _name(choice)
    if name is None:
        raise fields.error("tool_choice", f"must be {_FORMS}, got {show(choice)}")
    return ToolChoice(must_call=True, named=name)


def require_known(fields: Fields, choice: ToolChoice, names: Collection[str]) -> None:
    """Raises RequestError: the choice names a tool that there is none of."""
    for name in (*((choice.named,) if choice.named else ()), *sorted(choice.allowed or ())):
        if name not in names:
            raise fields.error("tool_choice", f"names {show(name)}, which is none of tools")


def _allowed(choice: Fields) -> ToolChoice:
    allowed = choice.required_object("allowed_tools")
    mode = allowed.required("mode")
    if mode not in ("auto", "required"):
        raise allowed.error("mode", f"must be auto or required, got {show(mode)}")
    names = []
    for tool in allowed.objects("tools"):
        name = _name(tool.raw)
        if name is None:
            raise tool.error("function", f'must be {{"type": "function", "function": {{"name": ...}}}}, got {show(tool.raw)}')
        names.append(name)
    if not names:
        raise allowed.error("tools", "must be a list of at least one tool")
    return ToolChoice(must_call=mode == "required", allowed=frozenset(names))


def _name(choice: Mapping[str, Any]) -> str | None:
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) and choice.get("type", "function") == "function" else None
    return name if isinstance(name, str) else None
