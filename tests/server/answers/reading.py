"""Readers of parts, fed a text in pieces."""

from collections.abc import Callable, Iterable
from itertools import pairwise

from muxjax.server.answers.parts import PartReader, Parts, gathered


def parts_of(reader: PartReader, text: str, cuts: Iterable[int] = ()) -> Parts:
    """The parts of a whole text that comes cut at those places."""
    borders = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
    pieces = [piece for start, end in pairwise(borders) for piece in reader.feed(text[start:end])]
    return gathered([*pieces, *reader.end()])


def same_at_every_cut(make: Callable[[], PartReader], text: str) -> Parts:
    """The parts of the text, which are the same cut in two at every place, and character by character."""
    whole = parts_of(make(), text)
    for cuts in [*([place] for place in range(len(text))), range(len(text))]:
        assert parts_of(make(), text, cuts) == whole
    return whole
