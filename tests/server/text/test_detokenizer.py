"""Text of an answer: decode(prompt + answer) without decode(prompt), wherever the prompt ends and the answer stops."""

import itertools
import re
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from muxjax.server.text.detokenizer import ContextDetokenizer, Detokenizer
from muxjax.server.text.token_bytes import _BYTE_OF_CHARACTER

PART = "\ufffd"
CORPUS = ["the cat sat on the mat", "don't do that, x y z", "日本語 and größer"] * 3
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
# no U+FFFD, which a decoder writes for what is no character, and no ▁, which Metaspace reads as a space
unicode_texts = st.text(
    st.one_of(st.sampled_from("ab é好日本語😀 \n"), st.characters(codec="utf-8", exclude_characters="\ufffd▁")), max_size=24
)


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False)
    )
    return tokenizer


def pieces(decoder: decoders.Decoder, *, byte_fallback: bool) -> Tokenizer:
    """Words after a ▁, as Llama 2's and Mistral's."""
    words = ["▁", *"abcdefghijklmnopqrstuvwxyz", "▁do", "▁the", "▁cat"]
    merges = [("▁", "d"), ("▁d", "o"), ("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("▁", "c"), ("▁c", "a"), ("▁ca", "t")]
    vocab = {word: place for place, word in enumerate(dict.fromkeys(["<s>", *BYTES, *words, "▁d", "▁t", "▁th", "▁c", "▁ca", "é", "好"]))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=byte_fallback, unk_token="<s>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens(["<s>"])
    return tokenizer


LLAMA = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
TOKENIZERS = {
    "byte-level": byte_level(),
    "byte-fallback": pieces(decoders.Sequence(LLAMA), byte_fallback=True),
    "byte-fallback without strip": pieces(decoders.Sequence(LLAMA[:3]), byte_fallback=True),
    "metaspace": pieces(decoders.Metaspace(), byte_fallback=False),
}
each_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)


LETTERS = {letter: value[0] for letter, value in _BYTE_OF_CHARACTER.items()}


def streamed(detokenizer: Detokenizer, tokens: Sequence[int]) -> list[str]:
    return [*(detokenizer.feed([token]) for token in tokens), detokenizer.flush()]


def answer(tokenizer: Tokenizer, prompt: Sequence[int], tokens: Sequence[int]) -> str:
    return "".join(streamed(ContextDetokenizer(tokenizer.decode, prompt), tokens))


def difference(tokenizer: Tokenizer, prompt: Sequence[int], tokens: Sequence[int]) -> str:
    return tokenizer.decode([*prompt, *tokens])[len(tokenizer.decode(prompt)) :]


def whole_up_to(tokenizer: Tokenizer, tokens: Sequence[int], place: int, step: int) -> int:
    """The next place, in steps of 1 or -1, between two characters."""
    while 0 < place < len(tokens) and PART in tokenizer.decode(tokens[:place]):
        place += step
    return place


@each_tokenizer
@settings(max_examples=150, deadline=None)
@given(content=unicode_texts, cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_an_answer_is_the_whole_text_without_the_prompts_wherever_both_are_cut(tokenizer, content, cuts):
    tokens = tokenizer.encode(content, add_special_tokens=False).ids
    start, end = sorted(round(cut * len(tokens)) for cut in cuts)
    text = answer(tokenizer, tokens[:start], tokens[start:end])
    first, last = whole_up_to(tokenizer, tokens, start, 1), whole_up_to(tokenizer, tokens, end, -1)
    prompt = min(
        len(tokenizer.decode(tokens[:start])), len(tokenizer.decode(tokens[:first]))
    )  # a run of bytes that is cut may be all marks
    whole = max(tokenizer.decode(tokens[:last]), tokenizer.decode(tokens[:end]).rstrip(PART), key=len)[prompt:]
    marks = text.removeprefix(whole)
    assert text.startswith(whole) and not marks.strip(PART)
    assert not marks or last < end
    assert marks or last == end or first > last


@each_tokenizer
@settings(max_examples=100, deadline=None)
@given(prompt=unicode_texts, content=unicode_texts)
def test_each_piece_has_whole_characters_only(tokenizer, prompt, content):
    prompt, tokens = (tokenizer.encode(text, add_special_tokens=False).ids for text in (prompt, content))
    fed = streamed(ContextDetokenizer(tokenizer.decode, prompt), tokens)
    assert PART not in "".join(fed)
    assert "".join(fed) == difference(tokenizer, prompt, tokens)


@each_tokenizer
@settings(max_examples=100, deadline=None)
@given(
    prompt=unicode_texts,
    content=unicode_texts,
    odd=st.lists(st.integers(0, 255), max_size=4),
    sizes=st.lists(st.integers(1, 6), min_size=1),
)
def test_the_text_is_the_same_however_tokens_are_fed_together(tokenizer, prompt, content, odd, sizes):
    before, after = (tokenizer.encode(text, add_special_tokens=False).ids for text in (prompt, content))
    tokens = [*after, *odd, *after]  # special ones and broken bytes
    together, rest = ContextDetokenizer(tokenizer.decode, before), iter(tokens)
    groups = iter(lambda: list(itertools.islice(rest, next(size))), [])
    size = itertools.cycle(sizes)
    text = "".join([*map(together.feed, groups), together.flush()])
    assert one_mark(text) == one_mark(answer(tokenizer, before, tokens))


def one_mark(text: str) -> str:
    """The text with one mark for a run of broken bytes, whose number depends on what a decoder reads before it."""
    return re.sub(f"{PART}+", PART, text)


@pytest.mark.parametrize("prompt", ["好", "xé", "日本語", "😀", "é😀", "x好", "the cat", "日" * 50])
def test_a_space_survives_behind_a_prompt_of_bytes(prompt):
    tokenizer = pieces(decoders.Sequence(LLAMA), byte_fallback=True)
    tokens = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in prompt.encode()]
    assert answer(tokenizer, tokens, [tokenizer.token_to_id("▁do")]) == " do"


def test_a_space_survives_behind_special_tokens_that_are_not_shown():
    tokenizer = TOKENIZERS["byte-fallback"]
    prompt, do = [*tokenizer.encode("cat", add_special_tokens=False).ids, *[0] * 600], tokenizer.token_to_id("▁do")
    assert tokenizer.decode([0]) == ""
    assert answer(tokenizer, prompt, [do]) == " do"
    assert answer(tokenizer, [0] * 9, [do]) == "do"
    assert answer(tokenizer, [], [*[0] * 9, do, *[0] * 9, do]) == "do do"


class Counted:
    """Counts tokens that are decoded."""

    def __init__(self, decode: Callable[[Sequence[int]], str]):
        self._decode = decode
        self.tokens = 0

    def __call__(self, tokens: Sequence[int]) -> str:
        self.tokens += len(tokens)
        return self._decode(tokens)


def byte(tokenizer: Tokenizer, value: int) -> int:
    fallback = tokenizer.token_to_id(f"<0x{value:02X}>")
    return tokenizer.encode("é", add_special_tokens=False).ids[0] if fallback is None else fallback


@each_tokenizer
@pytest.mark.parametrize("kind", ["broken bytes", "special tokens", "words"])
def test_the_work_for_a_token_does_not_grow(tokenizer, kind):
    token = {"broken bytes": byte(tokenizer, 0xE4), "special tokens": 0, "words": tokenizer.encode("a").ids[-1]}[kind]
    decode = Counted(tokenizer.decode)
    detokenizer = ContextDetokenizer(decode, tokenizer.encode("a cat").ids)
    work = []
    for _ in range(500):
        before = decode.tokens
        detokenizer.feed([token])
        work.append(decode.tokens - before)
    assert max(work[100:]) <= max(work[:20]) <= 60


@pytest.mark.parametrize("name", ["byte-level", "byte-fallback"])
def test_broken_bytes_are_told_as_they_come_and_to_the_end(name):
    tokenizer = TOKENIZERS[name]
    pieces = streamed(ContextDetokenizer(tokenizer.decode), [byte(tokenizer, 0xE4)] * 50)
    assert "".join(pieces) == PART * 50
    assert all(pieces[4:-1])


@pytest.mark.parametrize("broken", [b"\xf2\xb1\xb9", b"\xf2\xb1\xe4", b"\xe4\xbd", b"\xc3\xb1\xb9", b"\x80", b"a\xe4\xbd"])
def test_a_run_of_broken_bytes_has_as_many_marks_as_the_decoder_gives_it(broken):
    tokenizer = TOKENIZERS["byte-level"]
    letters = {value: tokenizer.token_to_id(letter) for letter, value in LETTERS.items()}
    tokens = [letters[value] for value in broken * 9]
    for end in range(len(tokens)):
        for start in range(0, end, 5):
            assert answer(tokenizer, tokens[:start], tokens[start:end]) == difference(tokenizer, tokens[:start], tokens[start:end])


@pytest.mark.parametrize("name", ["byte-level", "byte-fallback"])
def test_a_character_behind_broken_bytes_is_whole_again(name):
    tokenizer = TOKENIZERS[name]
    lead, good = byte(tokenizer, 0xC3), tokenizer.encode("ö", add_special_tokens=False).ids[-2:]
    assert tokenizer.decode(good) == "ö"
    for broken in range(7):
        assert answer(tokenizer, [], [*[lead] * broken, *good]) == PART * broken + "ö"


@pytest.mark.parametrize("name", ["byte-level", "byte-fallback"])
def test_an_answer_that_ends_within_a_character_ends_with_a_mark(name):
    tokenizer = TOKENIZERS[name]
    tokens = tokenizer.encode("a 😀", add_special_tokens=False).ids
    assert answer(tokenizer, [], tokens[:-1]).rstrip(PART) == "a "
    assert answer(tokenizer, [], tokens[:-1]).endswith(PART)


def test_a_character_that_began_in_the_prompt_is_the_prompts_though_its_token_holds_others():
    tokenizer = TOKENIZERS["byte-level"]
    tokens = tokenizer.encode("日本語 x", add_special_tokens=False).ids
    tokens = [place for token in tokens for place in unmerged(tokenizer, token)]
    within = [place for place in range(len(tokens)) if PART in tokenizer.decode(tokens[:place])]
    assert len(within) == 2
    for place in within:
        assert answer(tokenizer, tokens[:place], tokens[place:]) == difference(tokenizer, tokens[:place], tokens[place:])


def unmerged(tokenizer: Tokenizer, token: int) -> list[int]:
    """Tokens of the bytes of "日本語" that have parts of several characters, or else the token."""
    pieces = {"日本語": ["æĹ", "¥æľ¬è", "ªŀ"]}.get(tokenizer.decode([token]))
    return [tokenizer.token_to_id(piece) for piece in pieces] if pieces else [token]


def test_a_character_that_began_in_the_prompt_is_the_prompts():
    tokenizer = TOKENIZERS["byte-fallback"]
    whole = [byte(tokenizer, value) for value in "语".encode()]
    for cut in (1, 2):
        assert answer(tokenizer, whole[:cut], [*whole[cut:], tokenizer.token_to_id("a")]) == "a"
    assert answer(tokenizer, whole[:2], [tokenizer.token_to_id("a")]) == "a"
