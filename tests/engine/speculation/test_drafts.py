"""Drafts as arrays: rows, places, and which were right."""

import numpy as np

from muxjax.engine.speculation.drafts import Drafts


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def test_rows_without_any_are_passed_over():
    drafts = Drafts.of([ints(), ints(5, 6, 7), ints(), ints(8)])
    assert drafts is not None
    assert (drafts.rows.tolist(), drafts.places.tolist(), drafts.tokens.tolist()) == ([1, 1, 1, 3], [1, 2, 3, 1], [5, 6, 7, 8])
    assert len(drafts) == 4 and drafts.sequences == 2
    assert Drafts.of([ints(), ints()]) is None and Drafts.of([]) is None


def test_a_draft_is_right_that_was_sampled_behind_the_token_before_it():
    drafts = Drafts.of([ints(), ints(5, 6, 7), ints(8, 9)])
    assert drafts is not None
    assert drafts.right(ints(1, 5, 8, 6, 0, 7, 0, 9)).tolist() == [True, True, False, True, False]
    assert drafts.right(ints(5, 1, 9, 6, 7, 0, 9, 0)).tolist() == [False, True, True, False, True]
