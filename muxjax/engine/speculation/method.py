"""Method by which a model's tokens are drafted, as a value."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from muxjax.engine.options import ModelOptions
from muxjax.engine.speculation.prompt_lookup import prompt_lookup
from muxjax.types import Ints

MOST_ROWS = 128
"""Rows of a step, beyond which it takes longer with each of them: products read the weights once for fewer."""

Propose = Callable[[Ints, int], Ints]
"""At most so many tokens that may follow a text, of at least one token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """Speculative decoding of one model.

    Args:
      most_drafts: of a row.
      most_rows: of a step's rows that decode and their drafts together.
    """

    propose: Propose
    most_drafts: int
    most_rows: int

    @classmethod
    def of(cls, model: ModelOptions) -> "Speculation | None":
        """As the options say; None where they say nothing."""
        own = model.speculative_config
        if own is None:
            return None
        propose = partial(prompt_lookup, longest=own.prompt_lookup_max, shortest=own.fewest_found)
        return cls(propose=propose, most_drafts=own.num_speculative_tokens, most_rows=min(MOST_ROWS, model.most_decode_rows))
