"""What the server writes is JSON that every client reads."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.server.strict_json import encode, encode_event


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def read(text: str):
    return json.loads(text, parse_constant=refuse)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_whatever_is_written_can_be_read_and_only_numbers_that_are_none_are_null(value):
    assert read(encode(value)) == expected(value)


def expected(value):
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: expected(item) for key, item in value.items()}
    return [expected(item) for item in value] if isinstance(value, list | tuple) else value


def test_what_json_cannot_say_is_said_by_the_default():
    assert read(encode({"path": {1}, "nan": math.nan}, default=sorted)) == {"path": [1], "nan": None}


ODD = [{"text": "é\n\u2028"}, {"nan": math.nan, "list": [math.inf, 1.5]}, {"half": "\ud800"}, {"large": 2**70}, {1: 2}, [None, True]]


@pytest.mark.parametrize("value", ODD)
def test_events_are_read_as_what_is_encoded_slowly(value):
    assert read(encode_event(value).decode()) == read(encode(value))
