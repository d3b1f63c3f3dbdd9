"""A model's own way of writing: calls of tools and reasoning, as it was trained to."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from muxjax.server.answers.formats.known import PARSERS, parser_of
from muxjax.server.answers.formats.shape import Shape
from muxjax.server.answers.pattern import NO_MARKS, Marks
from muxjax.server.answers.reasoning import REASONING, Reasoning, reasoning_of

NONE = "none"
"""In place of a parser's name: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a model writes.

    Args:
      calls: shapes that are read as calls, the one first that it writes; none where that is not known.
      reasoning: None where it does not reason, or nobody knows how.
      marks: its tokenizer's.
    """

    calls: tuple[Shape, ...] = ()
    reasoning: Reasoning | None = None
    marks: Marks = NO_MARKS


PLAIN = Dialect()
"""Of a model that only writes text."""


def dialect_of(
    template: str,
    marks: Mapping[str, int],
    *,
    ends: Collection[int] = (),
    tool_call_parser: str | None = None,
    reasoning_parser: str | None = None,
) -> Dialect:
    """The dialect that a checkpoint's chat template is written for, or the one that its operator names.

    Args:
      marks: tokens that are no text, by what they are called.
      ends: tokens that end an answer.
      tool_call_parser, reasoning_parser: by name, or NONE; None for what the template says.
    """
    calls = tool_call_parser or parser_of(template)
    reasoning = reasoning_parser or reasoning_of(template)
    return Dialect(
        calls=PARSERS[calls](template) if calls in PARSERS else (),
        reasoning=REASONING.get(reasoning or NONE),
        marks=Marks(ids=marks, ends=frozenset(ends)),
    )
