"""Logits processors of a step's rows, as values between host and device, and log-probabilities of its tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from muxjax.types import Bits, Floats, Ints, Logprobs

NEUTRAL = (0.0, 0.0, 1.0)
"""Presence, frequency and repetition penalty that change nothing."""

EDIT = np.dtype([("row", "i4"), ("token", "i4"), ("add", "f4")])
"""Addition to one logit; minus infinity forbids the token."""


NO_ROW = -1
"""In `StepControls.pool`: nobody wants this hidden state."""


class Recount(NamedTuple):
    """A slot's tokens are counted anew: the prompt's, and those of its output."""

    slot: int
    prompt: Ints
    output: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class StepControls:
    """Logits processors of the B rows of a step, and of its Y drafts, whose numbers follow the rows'.

    A row whose chunk leaves tokens of its prompt over wants nothing but `follow`: its token is of no use.

    Args:
      penalties: [B, 3] float32, in the order of NEUTRAL; None where nobody has any. Rows that do have no drafts.
      recounts: slots that begin to decode with penalties.
      edits: [U] EDIT.
      masks: by row, [ceil(V / 32)] uint32 or fewer words: bit v % 32 of word v // 32 allows token v. Other rows allow all.
      logprobs: somebody wants to know those of the tokens.
      follow: [T] int32, the prompt's token behind each of the chunks' tokens, packed as these are; None where nobody wants to know
        of them.
      pool: [T] int32, the row that each of the chunks' hidden states is added to, or NO_ROW; None where nobody wants one.
    """

    penalties: Floats | None
    recounts: tuple[Recount, ...]
    edits: np.ndarray
    masks: Mapping[int, Bits]
    logprobs: bool
    follow: Ints | None
    pool: Ints | None = None


class TopLogprobs(NamedTuple):
    """Log-probabilities of N tokens, [N], and the most likely tokens in the place of each with theirs, [N, K], likeliest first."""

    logprob: Floats
    top_token: Ints
    top_logprob: Floats

    def of(self, row: int, token: int, most: int) -> Logprobs:
        """Log-probabilities of one token, with at most so many of the likeliest."""
        top = zip(self.top_token[row, :most].tolist(), self.top_logprob[row, :most].tolist(), strict=True)
        return Logprobs(token, float(self.logprob[row]), tuple(top))
