"""Units whose drafts are made for tests: of texts' next tokens, right and wrong ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from muxjax.cache.layout import CacheLayout
from muxjax.engine.speculation.method import Speculation
from muxjax.engine.unit import Unit
from muxjax.types import Ints
from tests.engine.test_unit import LAYOUTS, MAX_TOKENS, make_unit
from tests.fake_device import VOCAB, next_token

WIDE = {name: replace(layout, block_bytes=2048) for name, layout in LAYOUTS.items()}
"""Head blocks of 16 tokens, and of 8."""
LARGEST = max(layout.blocks(MAX_TOKENS - 1) for layout in WIDE.values())
MOST_DRAFTS, MOST_ROWS = 5, 14


def guesses(model: str, hits: Sequence[bool]) -> Callable[[Ints, int], Ints]:
    """The next tokens of one model's texts, of which those are right that `hits` says, for ever in turn."""
    made = 0

    def propose(text: Ints, most: int) -> Ints:
        nonlocal made
        tokens = text.tolist()
        for _ in range(most):
            tokens.append((next_token(model, tokens) + (not hits[made % len(hits)])) % VOCAB)
            made += 1
        return np.array(tokens[len(text) :], np.int32)

    return propose


def speculating_unit(
    hits: Sequence[bool],
    *,
    layouts: Mapping[str, CacheLayout] = WIDE,
    most_drafts: int = MOST_DRAFTS,
    most_rows: int = MOST_ROWS,
    **options,
) -> Unit:
    """Each model drafts by its own texts."""
    own = Speculation(propose=lambda text, most: text[:0], most_drafts=most_drafts, most_rows=most_rows)
    unit = make_unit(layouts=layouts, speculation=own, **options)
    for name, state in unit._states.items():
        assert state._drafter is not None
        state._drafter._speculation = replace(own, propose=guesses(name, hits))
    return unit
