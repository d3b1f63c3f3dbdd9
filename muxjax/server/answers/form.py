"""The form of an answer that is more than plain text: which parts it may have, and how the model writes them."""

from dataclasses import dataclass

from muxjax.server.answers.formats.json_list import JsonList, list_grammar
from muxjax.server.answers.formats.named import NamedCall
from muxjax.server.answers.parts import PartReader
from muxjax.server.answers.tools import ToolUse
from muxjax.types import Grammar, GrammarKind


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerForm:
    """What one answer's text is made of.

    Args:
      tools: those that it calls.
    """

    tools: ToolUse

    def reader(self) -> PartReader:
        """Reader of one choice's text."""
        return NamedCall(self.tools.named.name) if self.tools.named else JsonList()

    @property
    def grammar(self) -> Grammar:
        """What the text must look like."""
        if self.tools.named:
            return Grammar(kind=GrammarKind.JSON_SCHEMA, text=self.tools.named.schema)
        return list_grammar(self.tools)
