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
    """Which tools a chat knows, and what it must call.

    Args:
      tools: all that the model hears of.
      named: the answer is the arguments of this one.
      many: otherwise it is a list of calls, not of one only.
    """

    tools: tuple[Tool, ...]
    named: Tool | None = None
    many: bool = True

    @property
    def callable(self) -> tuple[Tool, ...]:
        """Those that an answer may call."""
        return tuple(tool for tool in self.tools if tool.schema)
