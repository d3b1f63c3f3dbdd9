"""The grammar of an answer that may reason, speak and call tools, in Lark: what is said is free, and a call that is begun has to be whole.

Marks that are tokens of their own end free text by themselves. Others end it as lazy lexemes, which stop where a mark does. The lexer is
greedy: what begins like free text must differ from it within its first lexeme. So the head of a call is one piece, and no free text begins
with one.
"""

import re
from collections.abc import Iterable

from muxjax.server.answers.formats.shape import Shape
from muxjax.server.answers.pattern import Marks, expression
from muxjax.server.answers.reasoning import Reasoning
from muxjax.server.answers.tools import ToolUse
from muxjax.types import Grammar, GrammarKind

_ANYTHING = r"(.|\n)*"
_BLANKS = r"/\s{0,4}/"


def only(form: Grammar) -> list[str]:
    """Rules of an `answer` of that form."""
    return ["answer: form", _embedded(form)]


def calls_only(shape: Shape, use: ToolUse, marks: Marks) -> list[str]:
    """Rules of an `answer` that is calls, at least one."""
    calls = "run" if shape.is_bare else _triggered(shape, use, marks)
    return [f"answer: {calls}", *shape.run(use.callable, marks, many=use.many)]


def calls_or(form: Grammar, shape: Shape, use: ToolUse, marks: Marks) -> list[str]:
    """Rules of an `answer` that is calls, or of that form.

    Args:
      shape: with a trigger, by which the lexer tells calls from the form.
    """
    return [f"answer: {_triggered(shape, use, marks)} | form", _embedded(form), *shape.run(use.callable, marks, many=use.many)]


def spoken(shape: Shape, use: ToolUse, marks: Marks, reasoning: Reasoning | None) -> list[str]:
    """Rules of an `answer` of free text with calls in it.

    Args:
      reasoning: what may stand before it.
    """
    trigger, answers, without = shape.trigger, ["run"] if shape.is_bare else [], []
    rules = shape.run(use.callable, marks, many=use.many)
    if trigger:
        is_token = trigger.text in marks.ids
        rules.append(f"spoken: said {marks.rule(trigger)}" if is_token else f"spoken[lazy]: TEXT {marks.rule(trigger)}")
        without.append(f"{_ANYTHING}{expression(trigger.text)}{_ANYTHING}")
    answers += ["(spoken run)* said"] if trigger and use.many else ["spoken run", "said"] if trigger else ["said"]
    if shape.is_bare:
        without.append(rf"\s*{shape.bare_beginning(use.callable)}{_ANYTHING}")
    if shape.is_bare and reasoning:
        without.append(rf"\s{_ANYTHING}")  # those behind it are no part of the text
    if reasoning and reasoning.open.text not in marks.ids:
        without.append(rf"\s*{expression(reasoning.open.text)}{_ANYTHING}")
    avoided = (*shape.marks, *(reasoning.marks if reasoning else ()))
    return [f"answer: {' | '.join(answers)}", *_free("said", "TEXT", without, marks.others(avoided)), *rules]


def reasoned(answer: Iterable[str], reasoning: Reasoning | None, marks: Marks, *, opened: bool, ends_within: bool) -> Grammar:
    """The grammar of an `answer`, with reasoning before it.

    Args:
      opened: it begins within reasoning.
      ends_within: it may end there.
    """
    if reasoning is None:
        return _lark(["start: answer", *answer])
    opening, closing = marks.rule(reasoning.open), marks.rule(reasoning.close)
    close = expression(reasoning.close.text)
    is_token = reasoning.close.text in marks.ids
    closed = f"closed: thought {closing}" if is_token else f"closed[lazy]: THOUGHT {closing}"
    thought = f"closed {_BLANKS} answer" + (" | thought" if ends_within else "")
    start = f"start: {opening}? ({thought})" if opened else f"start: {opening} ({thought}) | answer"
    thoughts = _free("thought", "THOUGHT", [f"{_ANYTHING}{close}{_ANYTHING}"], marks.others(reasoning.marks))
    return _lark([start, closed, *thoughts, *answer])


def _triggered(shape: Shape, use: ToolUse, marks: Marks) -> str:
    """One run or several, without a word between them."""
    assert shape.trigger is not None
    run = f"{marks.rule(shape.trigger)} run"
    return rf"{run} (/\n?/ {run})*" if use.many else run


def _free(rule: str, lexeme: str, without: Iterable[str], others: str) -> list[str]:
    """Rules of any text that none of the expressions matches, and of tokens that are no text."""
    expressions = " & ".join([f"/{_ANYTHING}/", *(f"~/{each}/" for each in without)])
    return [f"{rule}: {lexeme} ({others} {lexeme})*" if others else f"{rule}: {lexeme}", f"{lexeme}: {expressions}"]


def _embedded(form: Grammar) -> str:
    """The rule `form`."""
    if form.kind is GrammarKind.JSON_SCHEMA:
        return f"form: %json {form.text}"
    if form.kind is GrammarKind.LARK:
        return f"form: %lark {{\n{form.text}\n}}"
    within = re.sub(r"(\\.)|/", lambda found: found[1] or r"\/", form.text, flags=re.DOTALL).replace("\n", r"\n")
    return f"form: /{within}/"


def _lark(rules: Iterable[str]) -> Grammar:
    return Grammar(kind=GrammarKind.LARK, text="\n".join(rules))
