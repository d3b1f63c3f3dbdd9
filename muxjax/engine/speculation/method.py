"""Method by which a model's tokens are drafted, as a value."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from muxjax.engine.options import ModelOptions
from muxjax.engine.speculation.options import DRAFT_MODEL
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
      propose: drafts behind a text; None where another model makes them.
      draft_model: that one, of the same unit; "" for none.
      most_drafts: of a row.
      most_rows: of a step's rows that decode and their drafts together.
    """

    most_drafts: int
    most_rows: int
    propose: Propose | None = None
    draft_model: str = ""

    @classmethod
    def of(cls, model: ModelOptions) -> "Speculation | None":
        """As the options say; None where they say nothing, or that it drafts itself."""
        own = model.speculative_config
        if own is None or (own.method == DRAFT_MODEL and model.draft_model is None):
            return None
        looked_up = partial(prompt_lookup, longest=own.prompt_lookup_max, shortest=own.fewest_found)
        return cls(
            most_drafts=own.num_speculative_tokens,
            most_rows=min(MOST_ROWS, model.most_decode_rows),
            propose=None if model.draft_model else looked_up,
            draft_model=model.draft_model or "",
        )
