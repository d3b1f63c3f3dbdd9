"""Writings that are fixed but for a name: as expressions that read them as they come, and as rules of a grammar that demands them."""

import enum
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MOST_SPACES = 8
"""Blanks that are read where a writing has one."""


class Slot(enum.Enum):
    """What is not fixed in a writing."""

    NAME = "name"
    """The function's."""
    ID = "id"
    """Nine letters and digits."""
    GAP = "gap"
    """A blank, a line break or nothing."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A text that tells parts from each other; in many tokenizers a token of its own."""

    text: str


Part = str | Mark | Slot
Pattern = tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Tokens that stand for marks, and are no text.

    Args:
      ids: of each, by its text.
      ends: tokens that end an answer.
    """

    ids: Mapping[str, int] = field(default_factory=dict)
    ends: frozenset[int] = frozenset()

    def rule(self, mark: Mark) -> str:
        """The mark in a grammar."""
        return f"<[{self.ids[mark.text]}]>" if mark.text in self.ids else json.dumps(mark.text)

    def others(self, marks: Sequence[Mark]) -> str:
        """Any such token in a grammar, but those and the ends; "" where there is none."""
        left = sorted(set(self.ids.values()) - {self.ids.get(mark.text) for mark in marks} - self.ends)
        return f"<[{','.join(map(str, left))}]>" if left else ""


NO_MARKS = Marks()


def rules(pattern: Pattern, marks: Marks, name: str = "") -> str:
    """The pattern in a grammar, in Lark; what is fixed in one piece, for it must not be taken for free text at its beginning."""
    pieces: list[str] = []
    fixed = ""
    for part in (*pattern, None):
        if isinstance(part, str) or part is Slot.NAME:
            fixed += part if isinstance(part, str) else name
            continue
        pieces += [json.dumps(fixed)] if fixed else []
        fixed = ""
        if isinstance(part, Mark):
            pieces.append(marks.rule(part))
        elif part is not None:
            pieces.append({Slot.GAP: r"/[ \n]?/", Slot.ID: "/[a-zA-Z0-9]{9}/"}[part])
    return " ".join(pieces)


def expression(text: str) -> str:
    """The text as a regular expression of Lark, in which a blank may be any few."""
    return "".join(rf"\s{{0,{MOST_SPACES}}}" if c == " " else f"\\{c}" if c in r".^$*+?()[]{}|\/" else c for c in text)


class Reading:
    """A pattern as it comes."""

    def __init__(self, pattern: Pattern):
        atoms = [atom for part in pattern for atom in _atoms(part)]
        begun = ""
        for atom in reversed(atoms):
            begun = rf"{atom}(?:\Z|{begun})" if begun else atom
        self._whole, self._begun = re.compile("".join(atoms)), re.compile(begun)

    def match(self, text: str) -> re.Match[str] | None:
        """The text begins with all of it."""
        return self._whole.match(text)

    def may_follow(self, text: str) -> bool:
        """The text is its beginning, or begins with all of it."""
        return not text or self._begun.match(text) is not None


def _atoms(part: Part) -> list[str]:
    """Expressions of which each is either there or not."""
    space = rf"\s{{0,{MOST_SPACES}}}"
    if part is Slot.NAME:
        return [r"(?P<name>[\w.-]{1,64})"]
    if part is Slot.ID:
        return ["[a-zA-Z0-9]"] * 9
    if part is Slot.GAP:
        return [space]
    text = part.text if isinstance(part, Mark) else str(part)
    return [space if character == " " else re.escape(character) for character in text]


def beginning(text: str, mark: str) -> int:
    """Characters at the end of the text that may begin the mark."""
    return next((size for size in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:size])), 0)
