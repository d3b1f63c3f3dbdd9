"""Text of tokens that are bytes: the decoder's own, whatever the tokens, and however they are fed."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders

from muxjax.server.text.byte_detokenizer import ByteDetokenizer
from muxjax.server.text.detokenizer import ContextDetokenizer
from muxjax.server.text.tokenizer import ByteTokenizer, HfTokenizer, detokenizer_of
from tests.server.text.test_detokenizer import LETTERS, TOKENIZERS, byte_level

ODD = ["<|im start|>", "é", "Ġx", "日本", "<tool>"]
"""Added tokens, some of whose characters byte-level BPE writes bytes with."""


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> HfTokenizer:
    return HfTokenizer(saved(with_odd_ones(), tmp_path_factory.mktemp("words")))


def with_odd_ones() -> Tokenizer:
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken(text, special=False) for text in ODD])
    tokenizer.add_special_tokens(["<think>"])
    return tokenizer


def saved(tokenizer: Tokenizer, folder: Path) -> Path:
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def letters() -> list[int]:
    """Tokens of single bytes, those first that begin a character or go on with one."""
    ids = {LETTERS[letter]: byte_level().token_to_id(letter) for letter in LETTERS}
    return [ids[value] for value in (0xE4, 0xBD, 0xA0, 0xF0, 0x9F, 0x98, 0x80, 0xC3, 0xED, 0xF4, 0x90, 0x41, 0x20)]


any_tokens = st.lists(st.one_of(st.sampled_from(letters()), st.integers(0, 310)), max_size=16)


@settings(max_examples=400, deadline=None)
@given(prompt=any_tokens, tokens=any_tokens, sizes=st.lists(st.integers(1, 5), min_size=1), special=st.booleans())
def test_the_text_is_what_the_decoder_adds_to_the_prompts(words, prompt, tokens, sizes, special):
    told = detokenizer_of(words, prompt, special=special)
    assert isinstance(told, ByteDetokenizer)
    rest, size = iter(tokens), itertools.cycle(sizes)
    groups = iter(lambda: list(itertools.islice(rest, next(size))), [])
    text = "".join([*map(told.feed, groups), told.flush()])
    before = words.decode(prompt, special=special)
    assert text == words.decode([*prompt, *tokens], special=special)[len(before) :]


def test_special_tokens_are_shown_where_they_are_marks(words):
    think, a = words.marks["<think>"], words.encode("a", special=False)[0]
    tokens = [think, a, words.marks["<s>"], a]
    assert detokenizer_of(words, []).feed(tokens) == "aa"
    assert detokenizer_of(words, [], shown={"<think>"}).feed(tokens) == "<think>aa"


def test_a_copy_goes_its_own_way(words):
    begun, *rest = letters()[:3]
    one = detokenizer_of(words, [])
    assert one.feed([begun]) == ""
    other = one.copy()
    assert one.feed(rest) == "你" and other.flush() == "\ufffd"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_only_tokens_that_are_bytes_wherever_they_stand_are_joined(name, tmp_path):
    tokenizer = HfTokenizer(saved(TOKENIZERS[name], tmp_path))
    kind = ByteDetokenizer if name == "byte-level" else ContextDetokenizer
    assert isinstance(detokenizer_of(tokenizer, []), kind)


def test_a_decoder_that_does_more_than_join_bytes_is_asked(tmp_path):
    tokenizer = byte_level()
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    assert isinstance(detokenizer_of(HfTokenizer(saved(tokenizer, tmp_path)), []), ContextDetokenizer)


def test_made_up_text_is_joined_too():
    tokenizer = ByteTokenizer(300)
    tokens = list(range(300))
    assert detokenizer_of(tokenizer, []).feed(tokens) == tokenizer.decode(tokens)
