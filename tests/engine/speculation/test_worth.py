"""Whether drafts are made: as long as they win more than they cost, and every row has place for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.engine.speculation.worth import REST_STEPS, Worth

MOST_ROWS = 64


def after(worth: Worth, steps: int, *, rows: int = 1, drafts: int = 4, accepted: int = 0) -> Worth:
    for _ in range(steps):
        made = worth.speculates(MOST_ROWS)
        worth = worth.after(rows=rows, drafts=drafts * made, accepted=accepted * made, most_rows=MOST_ROWS)
    return worth


def test_drafts_that_are_right_are_made_for_ever():
    assert after(Worth(), 1000, accepted=3).speculates(MOST_ROWS)


def test_drafts_in_vain_are_given_up_after_a_trial_and_tried_again_after_a_rest():
    worth = after(Worth(), 5)
    assert worth.speculates(MOST_ROWS)
    worth = after(worth, 15)
    assert not worth.speculates(MOST_ROWS)
    assert not after(worth, REST_STEPS - 20).speculates(MOST_ROWS) and after(worth, REST_STEPS).speculates(MOST_ROWS)


def test_a_few_steps_in_vain_do_not_outweigh_many_that_were_not():
    assert after(after(Worth(), 100, accepted=3), 10).speculates(MOST_ROWS)


def test_finding_nothing_to_draft_is_given_up_too():
    assert not after(Worth(), 20, drafts=0).speculates(MOST_ROWS)


@pytest.mark.parametrize(
    ("rows", "drafts", "accepted", "pays"), [(1, 4, 1, True), (12, 48, 3, False), (12, 48, 8, True), (32, 32, 6, False)]
)
def test_the_more_rows_drafts_take_the_more_of_them_must_be_right(rows, drafts, accepted, pays):
    assert after(Worth(), 40, rows=rows, drafts=drafts, accepted=accepted).speculates(MOST_ROWS) == pays


def test_a_crowd_has_none_and_they_are_back_when_it_has_gone():
    worth = after(after(Worth(), 10, accepted=4), 1, rows=33, drafts=0)
    assert not worth.speculates(MOST_ROWS)
    assert after(worth, 1, rows=32).speculates(MOST_ROWS)


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(0, 4), st.integers(0, 4)), max_size=400))
def test_whatever_happens_they_are_tried_again_once_rows_are_few(steps):
    worth = Worth()
    for rows, drafts, accepted in steps:
        worth = after(worth, 1, rows=rows, drafts=rows * drafts, accepted=min(rows * drafts, rows * accepted))
        assert 0 <= worth.rest <= REST_STEPS and (worth.rest == 0 or not worth.speculates(MOST_ROWS))
    tried = 0
    for _ in range(REST_STEPS + 2):
        tried += worth.speculates(MOST_ROWS)
        worth = after(worth, 1, accepted=4)
    assert tried
