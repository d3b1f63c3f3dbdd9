"""Tokenizers of tokenizer.model and tekken.json: the ids that sentencepiece and tiktoken give."""

import contextlib
import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.errors import CheckpointError, ConfigError
from muxjax.specs.folders import require_tokenizer
from muxjax.specs.tokens import load_tokenizer, tokenizer_file, tokenizer_text
from muxjax.specs.vocabularies.parts import Wishes
from muxjax.specs.vocabularies.protobuf import read_message
from muxjax.specs.vocabularies.sentencepiece import read_sentencepiece
from muxjax.specs.vocabularies.tekken import read_tekken
from tests.specs.vocabulary_texts import FOLDER, TEXTS

EXPECTED = json.loads((FOLDER / "expected.json").read_text())
NO_ENDS = Wishes(add_bos=False)
UNKNOWN = 0
"""The id that sentencepiece gives what it does not know, which it decodes as a question mark."""


def read(path, wishes=NO_ENDS):
    return read_tekken(path, wishes) if path.suffix == ".json" else read_sentencepiece(path, wishes)


def folder_of(name, tmp_path, config=None):
    shutil.copy(FOLDER / name, tmp_path / ("tekken.json" if name == "tekken.json" else "tokenizer.model"))
    configure(tmp_path, config or {})
    return tmp_path


def configure(folder, config):
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", EXPECTED)
def test_ids_and_texts_are_those_of_the_library(name):
    tokenizer = read(FOLDER / name)
    ids = [tokenizer.encode(text).ids for text in TEXTS]
    assert ids == EXPECTED[name]["ids"]
    known = [place for place, each in enumerate(ids) if name == "tekken.json" or UNKNOWN not in each]
    assert len(known) > 10
    assert [tokenizer.decode(ids[place]) for place in known] == [EXPECTED[name]["texts"][place] for place in known]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_folder_is_loaded_with_the_ends_that_its_files_ask_for(tmp_path, name):
    folder = folder_of(name, tmp_path)
    require_tokenizer(folder)
    plain = read(FOLDER / name).encode("one two").ids
    assert load_tokenizer(tokenizer_file(folder)).encode("one two").ids == [1, *plain]
    configure(folder, {"add_bos_token": False, "add_eos_token": True})
    assert load_tokenizer(tokenizer_file(folder)).encode("one two").ids == [*plain, 2]
    assert load_tokenizer(tokenizer_file(folder)).encode("one two", add_special_tokens=False).ids == plain
    assert json.loads(tokenizer_text(folder))["model"]["type"] == ("Unigram" if name in ("unigram.model", "no_prefix.model") else "BPE")


def test_special_tokens_are_found_in_texts_and_what_follows_begins_anew(tmp_path):
    folder = folder_of("llama.model", tmp_path)
    tokenizer, plain = load_tokenizer(tokenizer_file(folder)), read(FOLDER / "llama.model")
    one, two = plain.encode("one").ids, plain.encode("two").ids
    assert tokenizer.encode("<s>one</s>two", add_special_tokens=False).ids == [1, *one, 2, *two]
    configure(folder, {"legacy": False})
    later = load_tokenizer(tokenizer_file(folder)).encode("<s>one</s>two", add_special_tokens=False)
    assert later.tokens[-1] == "two"[-len(later.tokens[-1]) :] and "▁" not in "".join(later.tokens)
    assert load_tokenizer(tokenizer_file(folder)).encode("one", add_special_tokens=False).ids == one


def test_tokens_that_other_files_list_have_their_ids_whatever_the_vocabulary_calls_them(tmp_path):
    size = read(FOLDER / "llama.model").get_vocab_size()
    listed = {"490": {"content": "<|im_start|>", "special": True}, str(size): {"content": "<|more|>", "special": False}}
    folder = folder_of("llama.model", tmp_path, {"added_tokens_decoder": listed})
    tokenizer = load_tokenizer(tokenizer_file(folder))
    assert tokenizer.encode("<|im_start|><|more|>", add_special_tokens=False).ids == [490, size]
    assert tokenizer.get_added_tokens_decoder()[490].special and not tokenizer.get_added_tokens_decoder()[size].special
    listed[str(size + 5)] = {"content": "<|far|>"}
    configure(folder, {"added_tokens_decoder": listed})
    with pytest.raises(ConfigError, match=f"added_tokens_decoder must be the ids that follow upon the {size} of tokenizer.model"):
        load_tokenizer(tokenizer_file(folder))


def test_a_tokenizer_json_goes_before(tmp_path):
    folder = folder_of("llama.model", tmp_path)
    (folder / "tokenizer.json").write_text(read(FOLDER / "bpe.model").to_str())
    assert tokenizer_file(folder).name == "tokenizer.json"


def test_a_file_that_is_none_is_refused_by_its_name(tmp_path):
    path = tmp_path / "tokenizer.model"
    for data in (b"", b"IQ== 0\nIg== 1\n", b"\0" * 50, (FOLDER / "llama.model").read_bytes()[:-3]):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=r"tokenizer\.model is no sentencepiece model"):
            load_tokenizer(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        require_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": {}}, "default_vocab_size is missing"),
        ({"vocab": [{"rank": 0}] * 480}, "token_bytes in base64 at place 0"),
        ({"vocab": []}, "a list of at least 480"),
        ({"special_tokens": None}, "special_tokens must be a list of at most default_num_special_tokens=10"),
        ({"special_tokens": [{"rank": 1, "token_str": "a"}]}, "each rank from 0 once"),
        ({"special_tokens": [{"rank": 0, "token_str": "e"}]}, "none stands there twice"),
    ],
)
def test_a_tekken_file_that_contradicts_itself_is_refused(tmp_path, change, said):
    (tmp_path / "tekken.json").write_text(json.dumps(json.loads((FOLDER / "tekken.json").read_text()) | change))
    with pytest.raises(ConfigError, match=said):
        load_tokenizer(tmp_path / "tekken.json")


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_none(data):
    with contextlib.suppress(ValueError):
        read_message(data)


KINDS = st.sampled_from(("ab ", "abc \n", "aA1 .,'", "日本語中 ", "😀👨\u200d ", "áéíÖß", " \t\n\r", "the cache of a head "))
DRAWN = st.lists(KINDS.flatmap(lambda alphabet: st.text(alphabet, max_size=40)), max_size=4).map("".join) | st.text(max_size=60)


@given(text=DRAWN)
def test_drawn_texts_have_the_ids_of_sentencepiece(text):
    sentencepiece = pytest.importorskip("sentencepiece", reason="`.ci/run` installs it under 3.11")
    for name in EXPECTED.keys() - {"tekken.json"}:
        theirs = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / name))
        assert read(FOLDER / name).encode(text).ids == theirs.encode(text), name


@pytest.fixture(scope="module")
def published():
    """Mistral's own vocabularies, which its library brings along, and the library's reading of each."""
    common = pytest.importorskip("mistral_common", reason="`.ci/run` installs it under 3.11")
    sentencepiece = pytest.importorskip("sentencepiece", reason="`.ci/run` installs it under 3.11")
    from pathlib import Path

    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    data = Path(common.__file__).parent / "data"
    models = {path: sentencepiece.SentencePieceProcessor(model_file=str(path)).encode for path in sorted(data.glob("*tokenizer*.model.*"))}
    for path in sorted(data.glob("tekken_*.json")):
        theirs = Tekkenizer.from_file(path)
        models[path] = lambda text, theirs=theirs: theirs.encode(text, bos=False, eos=False)
    return [(read_tekken(path, NO_ENDS) if path.suffix == ".json" else read_sentencepiece(path, NO_ENDS), models[path]) for path in models]


@given(text=DRAWN)
def test_published_vocabularies_give_the_ids_of_mistral_s_library(published, text):
    assert len(published) >= 7
    for ours, theirs in published:
        assert ours.encode(text).ids == theirs(text)
