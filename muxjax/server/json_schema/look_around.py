"""Patterns that do not look ahead or behind, which grammars cannot: what a pattern looks for first becomes one of its own."""

from collections.abc import Iterator
from typing import NamedTuple

_LOOKS = ("(?=", "(?!", "(?<=", "(?<!")
_ASSERTIONS = (r"\b", r"\B")


class Looking(NamedTuple):
    """A pattern that looks nowhere.

    Args:
      also: patterns that must be found too.
      is_same: together they say all that the pattern said; otherwise a little less.
    """

    pattern: str
    also: tuple[str, ...] = ()
    is_same: bool = True


def without_looking(pattern: str) -> Looking:
    """What is left of a pattern: of `^(?=a)b` it is `^b`, and `^(?:a)` too; of `a(?!b)` and `a\\b` only `a`."""
    kept: list[str] = []
    also: list[str] = []
    is_same, is_one = True, not _has_alternatives(pattern)
    for piece in _pieces(pattern):
        if piece.startswith("(?=") and kept == ["^"] and is_one and not any(look in piece[3:] for look in (*_LOOKS, *_ASSERTIONS)):
            also.append(f"^(?:{piece[3:-1]})")
        elif piece.startswith(_LOOKS) or piece in _ASSERTIONS:
            is_same = False
        else:
            kept.append(piece)
    return Looking("".join(kept), tuple(also), is_same)


def _has_alternatives(pattern: str) -> bool:
    """Outside of all groups."""
    depth = 0
    for atom in _atoms(pattern):
        depth += (atom == "(") - (atom == ")")
        if depth == 0 and atom == "|":
            return True
    return False


def _pieces(pattern: str) -> Iterator[str]:
    """Groups that look, each as a whole, and everything else by atoms."""
    group, depth, place = "", 0, 0
    for atom in _atoms(pattern):
        if group or pattern.startswith(_LOOKS, place):
            group += atom
            depth += (atom == "(") - (atom == ")")
            if depth == 0:
                yield group
                group = ""
        else:
            yield atom
        place += len(atom)
    yield from _atoms(group)  # one without an end


def _atoms(pattern: str) -> Iterator[str]:
    """Escapes and classes as a whole, all else character by character."""
    place = 0
    while place < len(pattern):
        end = _atom_end(pattern, place)
        yield pattern[place:end]
        place = end


def _atom_end(pattern: str, place: int) -> int:
    if pattern[place] == "\\":
        return place + 2
    if pattern[place] != "[":
        return place + 1
    end = place + 1 + pattern.startswith("^", place + 1)
    while end < len(pattern) and pattern[end] != "]":
        end += 2 if pattern[end] == "\\" else 1
    return end + 1
