"""Bad words are found by the end of a text, at a cost that does not grow with their number."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from muxjax.engine.bad_words import BadWords

TOKENS = st.integers(0, 3)
WORDS = st.lists(st.lists(TOKENS, min_size=1, max_size=4).map(tuple), max_size=12).map(tuple)


@given(WORDS, st.lists(TOKENS, max_size=9))
def test_exactly_the_tokens_that_would_complete_a_word_are_forbidden(words, text):
    bad = BadWords.of(words)
    forbidden = {*bad.always.tolist(), *bad.completing(np.array(text, np.int32)).tolist()}
    assert forbidden == {token for token in range(4) if any(tuple([*text, token][-len(word) :]) == word for word in words)}


def test_only_words_of_several_tokens_tie_a_request_to_its_last_token():
    assert BadWords.of(((1, 2), (3,))).tied
    assert not BadWords.of(((1,), (3,))).tied
    assert not BadWords.of(()).tied


def test_a_look_reads_no_more_of_the_text_than_the_longest_word():
    class Text(np.ndarray):
        seen = 0

        def tolist(self):
            Text.seen = max(Text.seen, len(self))
            return super().tolist()

    many = tuple((1, token % 7, token) for token in range(1000))
    assert len(BadWords.of(many).completing(np.array([5] * 9999 + [1, 6], np.int32).view(Text))) == 142
    assert Text.seen == 2
