import logging
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from muxjax.errors import ConfigError, RequestError
from muxjax.server.text import detokenizer
from muxjax.server.text.detokenizer import ContextDetokenizer, Detokenizer, TextStream, first_stop
from muxjax.server.text.tokenizer import ByteTokenizer, HfTokenizer
from tests.server.kit import BOS, VOCAB, write_json

PART = "\ufffd"
token_lists = st.lists(st.integers(0, VOCAB - 1), max_size=40)
stop_lists = st.lists(st.text("ab", min_size=1, max_size=4), max_size=4)


def streamed(stream: Detokenizer | TextStream, tokens) -> list[str]:
    return [*(stream.feed([token]) for token in tokens), stream.flush()]


class Letters:
    """Tokens are letters, some more than one, so that stops lie across their borders."""

    pieces = ("a", "b", "ab", "ba", "aab", "")

    def decode(self, tokens):
        return "".join(self.pieces[token] for token in tokens)


@given(tokens=token_lists)
def test_the_pieces_of_a_text_are_the_whole_text(tokenizer, tokens):
    assert "".join(streamed(ContextDetokenizer(tokenizer.decode), tokens)) == tokenizer.decode(tokens)


@given(content=st.text(max_size=20))
def test_no_character_is_split(tokenizer, content):
    pieces = streamed(ContextDetokenizer(tokenizer.decode), tokenizer.encode(content, special=False))
    assert "".join(pieces) == content
    assert all(PART not in piece for piece in pieces) or PART in content


def test_decoding_each_token_alone_would_split_a_character(tokenizer):
    tokens = tokenizer.encode("é", special=False)
    assert len(tokens) == 2
    assert "".join(tokenizer.decode([token]) for token in tokens) == PART * 2


def test_a_space_before_the_first_token_survives_a_decoder_that_strips_it():
    tokenizer = Tokenizer(models.WordLevel({"▁a": 0, "▁b": 1}, unk_token="▁a"))
    tokenizer.decoder = decoders.Metaspace()
    assert "".join(streamed(ContextDetokenizer(tokenizer.decode, prompt=[0]), [1, 0])) == " b a"
    assert "".join(streamed(ContextDetokenizer(tokenizer.decode), [1, 0])) == "b a"


def test_a_prompt_that_ends_within_a_character_is_not_shown_again(tokenizer):
    first, second = tokenizer.encode("é", special=False)
    assert "".join(
        streamed(ContextDetokenizer(tokenizer.decode, prompt=[first]), [second, *tokenizer.encode("a", special=False)])
    ).endswith("a")


@given(tokens=st.lists(st.integers(0, len(Letters.pieces) - 1), max_size=20), stops=stop_lists)
def test_cutting_a_stream_is_cutting_the_whole_text(tokens, stops):
    stream, pieces, whole = TextStream(ContextDetokenizer(Letters().decode), stops), [], Letters().decode(tokens)
    for token in tokens:
        pieces.append(stream.feed([token]))
        if stream.stopped is not None:
            break
    else:
        pieces.append(stream.flush())
    assert stream.stopped == first_stop(whole, stops)
    assert "".join(pieces) == (whole if stream.stopped is None else whole[: whole.index(stream.stopped)])


def test_what_may_begin_a_stop_is_held_back_and_comes_at_the_end():
    stream = TextStream(ContextDetokenizer(Letters().decode), ["bbb"])
    assert [stream.feed([0]), stream.feed([1]), stream.feed([1]), stream.flush()] == ["a", "", "", "bb"]


def test_the_work_for_many_stops_is_a_few_steps_a_character(monkeypatch):
    steps = 0

    def counted(stops, end):
        nonlocal steps
        steps += 1
        return bisect_left(stops, end)

    monkeypatch.setattr(detokenizer, "bisect_left", counted)
    stops = ["a" * 1023, *("a" * size + "b" for size in range(500, 563))]
    stream, text = TextStream(ContextDetokenizer(Letters().decode), stops), "a" * 499 + "b" + "a" * 1022 + "b"
    shown = "".join(stream.feed([Letters.pieces.index(letter)]) for letter in text)
    assert stream.stopped == "a" * 562 + "b" and shown == text[: 1523 - 563]
    assert steps < 3 * len(text)


@given(tokens=st.lists(st.integers(0, len(Letters.pieces) - 1), max_size=20), stops=stop_lists)
def test_a_stop_may_be_part_of_the_text(tokens, stops):
    stream, pieces, whole = TextStream(ContextDetokenizer(Letters().decode), stops, include=True), [], Letters().decode(tokens)
    for token in tokens:
        pieces.append(stream.feed([token]))
        if stream.stopped is not None:
            break
    else:
        pieces.append(stream.flush())
    end = len(whole) if stream.stopped is None else whole.index(stream.stopped) + len(stream.stopped)
    assert "".join(pieces) == whole[:end]


def test_the_first_tokens_may_be_free_of_stops():
    stream = TextStream(ContextDetokenizer(Letters().decode), ["b"], free=2)
    assert [stream.feed([1]), stream.feed([1]), stream.feed([0]), stream.feed([1])] == ["b", "b", "a", ""]
    assert stream.stopped == "b"


@given(content=st.text(st.characters(codec="utf-8"), max_size=20))
def test_the_pieces_of_tokens_are_the_bytes_of_the_text(tokenizer, content):
    tokens = tokenizer.encode(content, special=False)
    assert b"".join(tokenizer.piece(token) for token in tokens) == content.encode()


def test_special_tokens_have_pieces_but_are_shown_only_on_request(tokenizer):
    assert (tokenizer.piece(BOS), tokenizer.piece(VOCAB + 1)) == (b"<s>", b"")
    assert (tokenizer.is_special(BOS), tokenizer.is_special(5)) == (True, False)
    assert (tokenizer.decode([BOS]), tokenizer.decode([BOS], special=True)) == ("", "<s>")


def test_the_stop_that_is_complete_first_wins_over_the_one_that_begins_first():
    assert first_stop("xabcd", ["abcd", "bc"]) == "bc"
    assert first_stop("xabc", ["bc", "abc"]) == "abc"
    assert first_stop("xab", ["abc"]) is None


def test_a_text_gets_a_bos_only_when_special_tokens_are_asked_for(tokenizer):
    assert tokenizer.encode("cat", special=True) == (BOS, *tokenizer.encode("cat", special=False))


def test_half_a_surrogate_pair_is_refused(tokenizer):
    with pytest.raises(RequestError, match="surrogate pair at character 1"):
        tokenizer.encode("a\ud800", special=True)


def test_a_file_that_is_no_tokenizer_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"tokenizer\.json is no tokenizer"):
        HfTokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(
    ("model", "config", "told"),
    [
        (models.WordLevel({"a": 0, "<unk>": 1}, "<unk>"), {"clean_up_tokenization_spaces": True}, True),
        (models.WordLevel({"a": 0, "<unk>": 1}, "<unk>"), {"clean_up_tokenization_spaces": False}, False),
        (models.BPE({"a": 0}, []), {"clean_up_tokenization_spaces": True}, False),  # transformers leaves these alone too
    ],
)
def test_a_clean_up_that_is_not_done_is_told(tmp_path, caplog, model, config, told):
    Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    write_json(tmp_path / "tokenizer_config.json", config)
    with caplog.at_level(logging.WARNING):
        HfTokenizer(tmp_path / "tokenizer.json")
    assert ("clean_up_tokenization_spaces is not honoured" in caplog.text) == told


@given(tokens=st.lists(st.integers(0, 128_000), max_size=20))
def test_random_tokens_print_as_visible_characters(tokens):
    shown = ByteTokenizer(128_000).decode(tokens)
    assert len(shown) == len(tokens)
    assert shown.isprintable()


def test_bytes_stand_in_for_a_tokenizer():
    assert ByteTokenizer(1000).decode(ByteTokenizer(1000).encode("Hello!", special=True)) == "Hello!"
    assert max(ByteTokenizer(100).encode("Hello!", special=True)) < 100
