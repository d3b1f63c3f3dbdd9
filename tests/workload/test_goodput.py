"""The search for the highest good rate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.workload.goodput import FARTHEST, PRECISION, search
from muxjax.workload.metrics import goodput


@given(limit=st.floats(1 / FARTHEST, FARTHEST))
def test_the_answer_is_at_most_the_precision_below_the_limit(limit):
    tried = search(lambda scale: 1.0 if scale <= limit else 0.5, 0.99)
    assert limit / PRECISION <= goodput(tried, 0.99) <= limit
    assert len(tried) <= 14


@pytest.mark.parametrize(("share", "best"), [(1.0, FARTHEST), (0.0, 0.0)])
def test_it_ends_where_every_rate_is_good_or_none_is(share, best):
    assert goodput(search(lambda scale: share, 0.99), 0.99) == best


def test_no_higher_rate_is_tried_than_may_be():
    tried = search(lambda scale: 1.0, 0.99, most=7.0)
    assert goodput(tried, 0.99) == max(tried) == 4.0
    assert min(search(lambda scale: 0.0, 0.99, most=1.0)) == 1 / FARTHEST
