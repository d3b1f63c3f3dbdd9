"""Shapes in their order of use: the first ones hold every step, and none is left out."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from muxjax.buckets import BatchShape
from muxjax.device.programs.order import essential, useful_first


def decode(rows: int) -> BatchShape:
    return BatchShape(columns=16, tokens=rows, decode_rows=rows)


def mixed(rows: int, tokens: int) -> BatchShape:
    return BatchShape(columns=16, tokens=tokens, decode_rows=rows, prefill_rows=8)


SHAPES = [*map(decode, (8, 16, 32, 64, 128)), *(mixed(rows, tokens) for tokens in (128, 512, 2048) for rows in (0, 64))]


def test_the_largest_of_each_kind_come_first():
    assert essential(SHAPES) == [decode(128), mixed(64, 2048)]
    assert useful_first(SHAPES)[:2] == essential(SHAPES)


def test_each_next_one_halves_the_widest_gap():
    assert useful_first(list(map(decode, (1, 2, 3, 4, 5, 6, 7, 8)))) == list(map(decode, (8, 4, 6, 2, 7, 5, 3, 1)))


def test_shapes_that_keep_to_a_share_hold_no_step_that_a_start_waits_for_and_come_last():
    shares = [replace(shape, sm_share=96) for shape in SHAPES if shape.tokens == 2048]

    assert essential([*shares, *SHAPES]) == essential(SHAPES)
    assert set(useful_first([*shares, *SHAPES])[-2:]) == set(shares)


shapes = st.builds(
    BatchShape,
    columns=st.sampled_from([4, 16]),
    tokens=st.integers(0, 64),
    decode_rows=st.integers(0, 64),
    prefill_rows=st.sampled_from([0, 8]),
    sm_share=st.sampled_from([None, 80, 96]),
)


@given(st.lists(shapes, unique=True))
def test_no_shape_is_lost_or_comes_twice(drawn):
    assert sorted(useful_first(drawn), key=repr) == sorted(drawn, key=repr)
