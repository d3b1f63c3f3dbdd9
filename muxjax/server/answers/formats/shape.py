"""A way of writing calls: what stands before, between and behind their arguments."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from muxjax.server.answers.pattern import Mark, Marks, Pattern, Reading, Slot, expression, rules
from muxjax.server.answers.tools import Tool


class Arguments(Protocol):
    """A language in which arguments are written."""

    def read(self, text: str) -> str | None:
        """The text from arguments on, with these in JSON; "" where it does not begin with any, None where that is not known yet."""
        ...

    def rules(self, tool: Tool, rule: str) -> list[str]:
        """A rule of that name for a tool's arguments, in Lark, and others that it needs, which begin with its name."""
        ...


class JsonArguments:
    """Arguments in JSON, which are told as they come."""

    def read(self, text: str) -> str | None:
        text = text.lstrip()
        return None if not text else text if text.startswith("{") else ""

    def rules(self, tool: Tool, rule: str) -> list[str]:
        """The schema is whole in its rule, so that the $refs of two cannot meet."""
        return [f"{rule}: %json {tool.schema}"]


JSON = JsonArguments()


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A run of calls: `trigger before call{...}end between call{...}end after`.

    Args:
      trigger: what a run begins with; None where it has no sign of its own.
      is_bare: an answer may begin with a run that has no trigger.
      call: what goes before the arguments, with the function's name.
      between: None where a run has one call.
    """

    trigger: Mark | None = None
    is_bare: bool = False
    before: Pattern = ()
    call: Pattern
    arguments: Arguments = JSON
    end: Pattern = ()
    between: Pattern | None = None
    after: Pattern = ()

    @property
    def marks(self) -> tuple[Mark, ...]:
        """All that tell its parts from each other."""
        parts = (self.trigger, *self.before, *self.call, *self.end, *(self.between or ()), *self.after)
        return tuple(part for part in parts if isinstance(part, Mark))

    def bare_beginning(self, tools: Sequence[Tool]) -> str:
        """The beginning of an answer that is a call without a trigger, as a regular expression of Lark."""
        names = "|".join(expression(tool.name) for tool in tools)
        parts = [f"({names})" if part is Slot.NAME else expression(str(part)) for part in (*self.before, *self.call)]
        return "".join(parts)

    def run(self, tools: Sequence[Tool], marks: Marks, *, many: bool) -> list[str]:
        """Rules of a `run` of calls of those tools, without its trigger, in Lark."""
        more = "(between call)*" if many and self.between else ""
        run = [f"run: first {more} {rules(self.after, marks)}", *self._calls("first", self.before, tools, marks)]
        if more:
            run += [f"between: {rules(self.between or (), marks)}", *self._calls("call", (), tools, marks)]
        return run + [rule for place, tool in enumerate(tools) for rule in self.arguments.rules(tool, f"arguments_{place}")]

    def _calls(self, rule: str, before: Pattern, tools: Sequence[Tool], marks: Marks) -> list[str]:
        """A rule of that name for any one call, with what goes before it."""
        calls = [f"{rules((*before, *self.call), marks, tool.name)} arguments_{place}" for place, tool in enumerate(tools)]
        return [f"{rule}: ({' | '.join(calls)}) {rules(self.end, marks)}"]

    @cached_property
    def opening(self) -> Reading:
        """From the trigger to the first arguments."""
        return Reading((*((self.trigger,) if self.trigger else ()), *self.before, *self.call))

    @cached_property
    def bare_opening(self) -> Reading:
        return Reading((*self.before, *self.call))

    @cached_property
    def again(self) -> Reading | None:
        """From the end of arguments to the next ones."""
        return Reading((*_loose(self.end), *_loose(self.between), *self.call)) if self.between else None

    @cached_property
    def closing(self) -> Reading:
        """From the end of the last arguments to that of the run."""
        return Reading((*_loose(self.end), *_loose(self.after)))


def _loose(pattern: Pattern) -> Pattern:
    """Blanks before it are read as well."""
    return (Slot.GAP, *pattern) if pattern else ()
