"""Texts that could never fit are refused before they are tokenized."""

from dataclasses import replace

import pytest

from muxjax.errors import RequestError
from muxjax.server.openai.lengths import MOST_CUT_CHARACTERS, require_fit, require_short
from tests.server.kit import served

WORDS = "the cat sat on the mat. "


class Counted:
    """A tokenizer that knows how much it was given."""

    def __init__(self, tokenizer):
        self.tokenizer, self.characters = tokenizer, 0

    def encode(self, text: str, *, special: bool) -> tuple[int, ...]:
        self.characters += len(text)
        return self.tokenizer.encode(text, special=special)


@pytest.fixture
def model(tokenizer):
    return served(Counted(tokenizer), "m")


def test_of_a_text_that_is_far_too_long_only_the_beginning_is_tokenized(model):
    with pytest.raises(RequestError, match=r"maximum context length is 100 tokens.* of 7200000 characters") as refusal:
        require_fit(model, WORDS * 300_000, "prompt")
    assert (refusal.value.status, refusal.value.param, refusal.value.code) == (400, "prompt", "context_length_exceeded")
    assert 0 < model.tokenizer.characters <= 2**16


def test_a_long_text_that_may_fit_is_let_through(model, tokenizer):
    long = WORDS * 10_000
    require_fit(replace(model, max_model_len=len(tokenizer.encode(long, special=False))), long, "prompt")


def test_a_short_text_is_left_to_the_exact_count(model):
    require_fit(model, WORDS * 2000, "prompt")
    assert not model.tokenizer.characters


def test_a_text_to_be_cut_has_a_largest_size_that_grows_with_the_context(model):
    require_short(model, MOST_CUT_CHARACTERS, "prompt")
    with pytest.raises(RequestError, match=f"has {MOST_CUT_CHARACTERS + 1} characters, of which at most {MOST_CUT_CHARACTERS}"):
        require_short(model, MOST_CUT_CHARACTERS + 1, "prompt")
    require_short(replace(model, max_model_len=2**17), 2**21, "prompt")


def test_long_texts_are_tokenized_and_told_as_short_ones_are(tokenizer):
    long = "the cat's näive 🐈 sat\n\n  on the mat 12 " * 500
    tokens = tokenizer.encode(long, special=True)
    assert tokens == tuple(tokenizer._tokenizer.encode(long, add_special_tokens=True).ids)
    assert tokenizer.decode(tokens) == tokenizer._tokenizer.decode(tokens, skip_special_tokens=True) == long
