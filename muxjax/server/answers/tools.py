"""Tools that a chat offers, and which of them its answer may or must call."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the client can run.

    Args:
      schema: JSON schema of its arguments, as text; "" for one that is not to be called.
      description: in the form that chat templates take, which is OpenAI's for chats.
    """

    name: str
    schema: str
    description: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """Which tools a chat knows, and which of them it may or must call.

    Args:
      tools: all that the model hears of.
      must_call: it is not left to the model.
      many: an answer may have several calls.
      named: the one that must be called, by its name.
    """

    tools: tuple[Tool, ...]
    must_call: bool = True
    many: bool = True
    named: Tool | None = None

    @property
    def callable(self) -> tuple[Tool, ...]:
        """Those that an answer may call."""
        return tuple(tool for tool in self.tools if tool.schema)
