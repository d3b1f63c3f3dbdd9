"""Prompt lookup: what stood behind a text's end before."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.engine.speculation.prompt_lookup import prompt_lookup


def looked_up(text: str, most: int = 3, *, longest: int = 3, shortest: int = 1) -> str:
    tokens = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    return bytes(prompt_lookup(tokens, most, longest=longest, shortest=shortest).astype(np.uint8)).decode()


@pytest.mark.parametrize(
    ("text", "drafted"),
    [
        ("abcdefg abc", "def"),
        ("xbc1 abc2 zzz abc", "2 z"),  # the longer end beats the nearer one
        ("abc1xx abc2xx abc", "2xx"),  # of equals the last
        ("ababab", "ab"),  # nothing has three behind it: the one with most
        ("abababababab", "aba"),
        ("aaaaaaa", "aaa"),
        ("abcd", ""),
        ("a", ""),
    ],
)
def test_examples(text, drafted):
    assert looked_up(text) == drafted


def test_an_end_that_is_too_short_says_nothing():
    assert looked_up("xbc1 ybc", shortest=2) == "1 y"
    assert looked_up("xbc1 ybc", shortest=3) == ""


@given(st.text("ab", min_size=1, max_size=40), st.integers(1, 6), st.integers(1, 5), st.data())
def test_it_is_what_stood_behind_the_longest_end_that_is_looked_for(text, most, longest, data):
    shortest = data.draw(st.integers(1, longest))
    drafted = looked_up(text, most, longest=longest, shortest=shortest)
    found = [length for length in range(shortest, longest + 1) if text[-length:] in text[:-1] and len(text) > length]
    assert bool(drafted) == bool(found) and len(drafted) <= most
    if found:
        assert text[-found[-1] :] + drafted in text
