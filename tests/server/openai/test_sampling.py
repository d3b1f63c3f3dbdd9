"""How wishes for single tokens and words are read."""

import pytest

from muxjax.server.openai.schema import parse_completion
from tests.server.kit import STAMP


@pytest.mark.parametrize("word, spellings", [("\n", ["\n"]), ("  cat", ["cat", " cat"]), ("cat ", ["cat ", " cat "])])
def test_a_bad_word_of_white_space_forbids_that_and_no_other(catalog, tokenizer, word, spellings):
    generation = parse_completion({"model": "a", "prompt": "the cat", "bad_words": [word]}, catalog, STAMP)
    assert generation.requests[0].sampling.bad_words == tuple(tokenizer.encode(text, special=False) for text in spellings)
