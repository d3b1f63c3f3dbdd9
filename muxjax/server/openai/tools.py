"""Tools that a chat offers, and which of them its answer may or must call."""

import functools
import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from muxjax.errors import RequestError
from muxjax.server.answers.form import AnswerForm
from muxjax.server.answers.tools import Tool, ToolUse
from muxjax.server.catalog import ServedModel
from muxjax.server.json_schema.follow import followed
from muxjax.server.json_schema.size import require_small
from muxjax.server.openai.fields import Fields, show
from muxjax.server.openai.grammar import checked
from muxjax.server.openai.tool_choice import NOTHING, ToolChoice, read_choice, require_known
from muxjax.types import GrammarKind

MOST_TOOLS = 128
_KEPT_CHARACTERS = 4096
_NAME = re.compile(r"[\w-]{1,64}", re.ASCII)


def read_tools(fields: Fields, model: ServedModel) -> ToolUse | None:
    """The tools that an answer may or must call; None where it may call none: then the model hears of none.

    Raises:
      RequestError: a tool or the choice is not what it must be, or the model's chat template has no place for tools.
    """
    choice = read_choice(fields)
    if choice is not NOTHING:
        require_small(fields.get("tools"), "tools", model.max_grammar_characters)
    tools = tuple(_tool(entry, choice) for entry in fields.objects("tools"))
    many = fields.flag("parallel_tool_calls", True)
    if len(tools) > MOST_TOOLS:
        raise fields.error("tools", f"must be at most {MOST_TOOLS}, got {len(tools)}")
    for name, count in Counter(tool.name for tool in tools).items():
        if count > 1:
            raise fields.error("tools", f"must have names of their own, got {show(name)} {count} times")
    if choice is NOTHING or (not tools and choice == ToolChoice()):
        return None
    if not tools:
        raise fields.error("tool_choice", "needs tools")
    require_known(fields, choice, {tool.name for tool in tools})
    named = next((tool for tool in tools if tool.name == choice.named), None)
    use = ToolUse(tools=tools, must_call=choice.must_call, many=many and named is None, named=named)
    require_usable(use, model)
    return use


def require_usable(use: ToolUse, model: ServedModel) -> None:
    """Raises RequestError: the model cannot be asked to use these tools."""
    if not use.must_call and model.template is not None and not model.template.shows_tools:
        raise RequestError(
            f"tools: the chat template of `{model.name}` ({model.template.name}) does not show tools to the model, so it cannot choose one:"
            ' start the model with another chat_template, or say which must be called (tool_choice "required", or a function\'s name)',
            param="tools",
            code="unsupported_value",
        )
    grammar = AnswerForm(tools=use, dialect=model.dialect).grammar()
    if grammar is None or grammar.kind is not GrammarKind.LARK:
        return
    try:
        checked(grammar, "tools")
    except RequestError as error:  # each can be followed by itself
        problem = "cannot be followed together: there are too many, or they are too large"
        raise RequestError(f"tools {problem}", param="tools", code="invalid_value") from error


_MEMBERS = frozenset(
    ("additionalProperties", "patternProperties", "propertyNames", "minProperties", "unevaluatedProperties", "dependentSchemas")
) | frozenset(("$ref", "allOf", "anyOf", "oneOf", "if", "not", "const", "enum"))
"""Keywords by which a schema may speak of members that `properties` does not name."""


def _tool(entry: Fields, choice: ToolChoice) -> Tool:
    if entry.get("type") != "function":
        raise entry.error("type", f"must be function, got {show(entry.get('type'))}")
    function = entry.required_object("function")
    name = function.required("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise function.error("name", f"must be 1 to 64 letters, digits, _ and -, got {show(name)}")
    function.text("description")
    function.flag("strict")
    schema = _arguments(function)
    return Tool(name=name, schema=_followed(schema, function.where("parameters")) if choice.allows(name) else "", description=entry.raw)


def _followed(schema: Mapping[str, Any], where: str) -> str:
    """The schema as `followed` has it: small ones are kept, for agents send the same tools again and again."""
    try:
        text = json.dumps(schema)
    except RecursionError:
        return followed(schema, where)
    return _kept(text, where) if len(text) <= _KEPT_CHARACTERS else followed(schema, where)


@functools.lru_cache(maxsize=2048)
def _kept(text: str, where: str) -> str:
    return followed(json.loads(text), where)


def _arguments(function: Fields) -> Mapping[str, Any]:
    """Schema of a function's arguments: nothing but `{}` where it names no parameters, which is how functions without any are written."""
    parameters = function.object("parameters")
    raw = parameters.raw if parameters else {}
    none_named = not raw.get("properties") and not raw.get("required") and _MEMBERS.isdisjoint(raw)
    schema = {**raw, **({"properties": {}, "additionalProperties": False} if none_named else {})}
    if schema.setdefault("type", "object") != "object":
        raise function.error("parameters", f"must be the schema of an object, got type {show(schema['type'])}")
    return schema
