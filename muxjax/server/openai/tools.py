"""Tools that a chat offers, and what an answer must be when one of them has to be called."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from muxjax.errors import RequestError
from muxjax.server.answers.form import AnswerForm
from muxjax.server.answers.tools import Tool, ToolUse
from muxjax.server.json_schema.follow import followed
from muxjax.server.json_schema.size import require_small
from muxjax.server.openai.fields import Fields, show
from muxjax.server.openai.grammar import checked

MOST_TOOLS = 128
_NAME = re.compile(r"[\w-]{1,64}", re.ASCII)
_CHOICES = 'none, required or {"type": "function", "function": {"name": ...}}'


def read_tools(fields: Fields, most: int) -> ToolUse | None:
    """The tools to call; None where none is: then the model hears of none.

    Args:
      most: characters that their schemas may have together.
    Raises:
      RequestError: a tool or the choice is not what it must be, or is left to the model.
    """
    choice = fields.get("tool_choice")
    if choice not in (None, "none", "auto"):
        require_small(fields.get("tools"), "tools", most)
    tools = tuple(_tool(entry, choice) for entry in fields.objects("tools"))
    many = fields.flag("parallel_tool_calls", True)
    if len(tools) > MOST_TOOLS:
        raise fields.error("tools", f"must be at most {MOST_TOOLS}, got {len(tools)}")
    for name, count in Counter(tool.name for tool in tools).items():
        if count > 1:
            raise fields.error("tools", f"must have names of their own, got {show(name)} {count} times")
    if choice == "none" or (not tools and choice in (None, "auto")):
        return None
    if not tools:
        raise fields.error("tool_choice", "needs tools")
    if choice in (None, "auto"):
        raise fields.error(
            "tool_choice", f"auto is not supported yet, which is the default with tools: say {_CHOICES}", code="unsupported_value"
        )
    if choice != "required":
        return ToolUse(tools=tools, named=_named(fields, tools))
    use = ToolUse(tools=tools, many=many)
    try:
        checked(AnswerForm(tools=use).grammar, "tools")
    except RequestError as error:  # each can be followed by itself
        problem = "cannot be followed together: there are too many, or they are too large"
        raise fields.error("tools", problem, code="invalid_value") from error
    return use


_MEMBERS = frozenset(
    ("additionalProperties", "patternProperties", "propertyNames", "minProperties", "unevaluatedProperties", "dependentSchemas")
) | frozenset(("$ref", "allOf", "anyOf", "oneOf", "if", "not", "const", "enum"))
"""Keywords by which a schema may speak of members that `properties` does not name."""


def _tool(entry: Fields, choice: object) -> Tool:
    if entry.get("type") != "function":
        raise entry.error("type", f"must be function, got {show(entry.get('type'))}")
    function = entry.required_object("function")
    name = function.required("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise function.error("name", f"must be 1 to 64 letters, digits, _ and -, got {show(name)}")
    function.text("description")
    function.flag("strict")
    schema = _arguments(function)
    called = choice == "required" or (isinstance(choice, dict) and _name(choice) == name)
    return Tool(name=name, schema=followed(schema, function.where("parameters")) if called else "", description=entry.raw)


def _arguments(function: Fields) -> Mapping[str, Any]:
    """Schema of a function's arguments: nothing but `{}` where it names no parameters, which is how functions without any are written."""
    parameters = function.object("parameters")
    raw = parameters.raw if parameters else {}
    none_named = not raw.get("properties") and not raw.get("required") and _MEMBERS.isdisjoint(raw)
    schema = {**raw, **({"properties": {}, "additionalProperties": False} if none_named else {})}
    if schema.setdefault("type", "object") != "object":
        raise function.error("parameters", f"must be the schema of an object, got type {show(schema['type'])}")
    return schema


def _named(fields: Fields, tools: tuple[Tool, ...]) -> Tool:
    choice = fields.get("tool_choice")
    name = _name(choice) if isinstance(choice, dict) else None
    if name is None:
        raise fields.error("tool_choice", f"must be {_CHOICES}, got {show(choice)}")
    for tool in tools:
        if tool.name == name:
            return tool
    raise RequestError(f"tool_choice names {show(name)}, which is none of tools", param="tool_choice")


def _name(choice: Mapping[str, Any]) -> str | None:
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) and choice.get("type", "function") == "function" else None
    return name if isinstance(name, str) else None
