"""Drafts of a step: guesses of the tokens behind those that its rows decode, and which of them were right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from muxjax.types import Bools, Ints


@dataclass(frozen=True, slots=True)
class Drafts:
    """Drafts of a step's rows, Y of them, row after row. They lie in columns that the row's slot has.

    Args:
      rows: [Y] int32, the row that each follows, ascending; places: [Y] int32, how far behind the row's own token, from 1 on.
      tokens: [Y] int32 ids.
    """

    rows: Ints
    places: Ints
    tokens: Ints

    @classmethod
    def of(cls, guesses: Sequence[Ints]) -> "Drafts | None":
        """Those of each row, which may be none; None where no row has any."""
        counts = np.array([len(guess) for guess in guesses], np.int32)
        if not counts.any():
            return None
        ends = np.cumsum(counts, dtype=np.int32)
        places = np.arange(1, ends[-1] + 1, dtype=np.int32) - np.repeat(ends - counts, counts)
        return cls(np.repeat(np.arange(len(counts), dtype=np.int32), counts), places, np.concatenate(guesses).astype(np.int32))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def sequences(self) -> int:
        """Rows that have drafts."""
        return int(np.count_nonzero(self.places == 1))

    def right(self, tokens: Ints) -> Bools:
        """[Y] bool: the draft is what was sampled behind the token before it.

        Args:
          tokens: [B + Y] sampled behind each row's own token, and behind each draft.
        """
        before = np.arange(len(tokens) - len(self) - 1, len(tokens) - 1)
        return self.tokens == tokens[np.where(self.places == 1, self.rows, before)]
