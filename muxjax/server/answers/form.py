"""The form of an answer that is more than plain text: which parts it may have, and how the model writes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from muxjax.server.answers import grammar
from muxjax.server.answers.call_reader import CallReader
from muxjax.server.answers.dialect import PLAIN, Dialect
from muxjax.server.answers.formats.json_list import JSON_LIST
from muxjax.server.answers.formats.named import NamedCall
from muxjax.server.answers.formats.shape import Shape
from muxjax.server.answers.parts import PartReader, Piece, TextPiece
from muxjax.server.answers.pattern import Mark
from muxjax.server.answers.reasoning import ReasoningReader, ReasoningTokens
from muxjax.server.answers.tools import ToolUse
from muxjax.types import Grammar, GrammarKind


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerForm:
    """What one answer's text is made of.

    Args:
      tools: those that it may or must call; None where there are none.
      dialect: the model's.
      opened: the prompt has opened reasoning, which the text goes on with.
    """

    tools: ToolUse | None = None
    dialect: Dialect = PLAIN
    opened: bool = False

    @property
    def must_call(self) -> bool:
        """There is nothing but calls, beside reasoning."""
        return self.tools is not None and self.tools.must_call

    def reader(self) -> PartReader:
        """Reader of one choice's text."""
        reasoning, answer = self.dialect.reasoning, self._answer_reader()
        return ReasoningReader(reasoning, answer, opened=self.opened) if reasoning else answer

    def reasoning_tokens(self) -> ReasoningTokens | None:
        """Counter of one choice's reasoning; None where it has none, or marks that are no tokens of their own."""
        reasoning, ids = self.dialect.reasoning, self.dialect.marks.ids
        if reasoning is None or reasoning.close.text not in ids:
            return None
        return ReasoningTokens(ids.get(reasoning.open.text), ids[reasoning.close.text], opened=self.opened)

    def _answer_reader(self) -> PartReader:
        if self.tools and self._shapes:
            return CallReader(self._shapes, {tool.name for tool in self.tools.callable}, must_call=self.must_call)
        return NamedCall(self.tools.named.name) if self.tools and self.tools.named else PlainText()

    @property
    def _shapes(self) -> Sequence[Shape]:
        """In which calls are written; none where they cannot be told from text, or a named tool's arguments are all there is."""
        return self.dialect.calls or ((JSON_LIST,) if self.tools and self.must_call and not self.tools.named else ())

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Marks that a reader must see."""
        reasoning = self.dialect.reasoning.marks if self.dialect.reasoning else ()
        return (*(mark for shape in self._shapes for mark in shape.marks if self.tools), *reasoning)

    def excludes(self, form: Grammar | None) -> bool:
        """Text of that form cannot be told from a call that the model writes; where it must call there is no text."""
        if form is None or self.tools is None or self.must_call:
            return False
        written = self._shapes[0] if self._shapes else None
        trigger = written.trigger if written else None
        return written is not None and written.is_bare and (trigger is None or trigger.text not in self.dialect.marks.ids)

    def grammar(self, form: Grammar | None = None) -> Grammar | None:
        """What the text must look like; None for anything.

        Args:
          form: of text, where there is any; not one that is excluded.
        """
        named = self.tools.named if self.tools and not self._shapes else None
        form = Grammar(kind=GrammarKind.JSON_SCHEMA, text=named.schema) if named else form
        reasoning, marks = self.dialect.reasoning, self.dialect.marks
        reasoned = partial(grammar.reasoned, reasoning=reasoning, marks=marks, opened=self.opened, ends_within=False)
        if not self.tools or not self._shapes:
            return reasoned(grammar.only(form)) if form and reasoning else form
        shape = self._shapes[0]
        if self.must_call:
            return reasoned(grammar.calls_only(shape, self.tools, marks))
        if form:
            return reasoned(grammar.calls_or(form, shape, self.tools, marks))
        return reasoned(grammar.spoken(shape, self.tools, marks, reasoning), ends_within=True)


class PlainText:
    """Reader of text alone."""

    has_called = False

    def feed(self, text: str) -> list[Piece]:
        return [TextPiece(text)] if text else []

    def end(self) -> list[Piece]:
        return []


def answer_form(dialect: Dialect, tools: ToolUse | None, *, prompt_end: str, continued: bool = False) -> AnswerForm | None:
    """The form of an answer; None for plain text, of which nobody has to read parts.

    Args:
      prompt_end: the end of the prompt's text with its special tokens, by which reasoning may be opened.
      continued: the answer goes on with a message that was begun.
    """
    calls = tools is not None and (tools.must_call or bool(dialect.calls))
    if not calls and dialect.reasoning is None:
        return None
    opened = dialect.reasoning is not None and dialect.reasoning.is_opened(prompt_end, continued=continued)
    return AnswerForm(tools=tools if calls else None, dialect=dialect, opened=opened)
