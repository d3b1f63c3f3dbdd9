"""What the server writes is JSON that every client reads."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from muxjax.server.strict_json import encode


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
