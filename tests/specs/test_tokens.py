"""Tokens of a folder: those of tokenizer.json, and those that only other files name. Against what transformers reads."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from muxjax.errors import ConfigError
from muxjax.specs.tokens import load_tokenizer, special_texts, tokenizer_eos, tokenizer_text

TEXT = "hi <|im_end|> [PAD]<img>hi"
IM_END = {"content": "<|im_end|>", "lstrip": False, "normalized": False, "rstrip": True, "single_word": False, "special": True}
PLAIN = {"content": "<img>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": False}

FOLDERS = {
    "tokenizer.json alone": {},
    "added_tokens_decoder": {"tokenizer_config.json": {"added_tokens_decoder": {"102": PLAIN, "101": IM_END}}},
    "added_tokens_decoder changes flags": {"tokenizer_config.json": {"added_tokens_decoder": {"100": {**PLAIN, "content": "</s>"}}}},
    "added_tokens.json": {
        "added_tokens.json": {"<img>": 102, "<|im_end|>": 101, "other": 100},
        "tokenizer_config.json": {"eos_token": "<|im_end|>"},
    },
    "added_tokens.json beside added_tokens_decoder": {
        "added_tokens.json": {"<img>": 102},
        "tokenizer_config.json": {"added_tokens_decoder": {"101": IM_END}},
    },
    "special_tokens_map.json": {
        "special_tokens_map.json": {"eos_token": {**IM_END, "rstrip": False}, "pad_token": "[PAD]", "additional_special_tokens": ["<img>"]},
        "tokenizer_config.json": {"eos_token": "</s>", "bos_token": "hi"},
    },
    "named in tokenizer_config.json": {
        "tokenizer_config.json": {
            "eos_token": "<|im_end|>",
            "pad_token": {"__type": "AddedToken", **IM_END, "content": "[PAD]"},
            "image_token": "<img>",
        }
    },
    "extra named tokens": {"tokenizer_config.json": {"extra_special_tokens": {"image_token": "<img>"}, "cls_token": "[PAD]"}},
    "names of the model's own": {
        "tokenizer_config.json": {"model_specific_special_tokens": {"boi": "[PAD]", "image_token": {"__type": "AddedToken", **IM_END}}}
    },
    "names of the model's own, and by text outside": {
        "tokenizer_config.json": {"model_specific_special_tokens": {"boi": "[PAD]"}, "image_token": "<img>"}
    },
    "names of the model's own, and by flags outside": {
        "tokenizer_config.json": {
            "model_specific_special_tokens": {"boi": "[PAD]"},
            "image_token": {"__type": "AddedToken", **IM_END, "content": "<img>"},
        }
    },
    "names of the model's own, and in a list": {
        "tokenizer_config.json": {"model_specific_special_tokens": {"boi": "[PAD]", "bos_token": "<img>"}, "bos_token": "</s>"},
        "special_tokens_map.json": {"extra_special_tokens": {"eoi": "<|im_end|>"}},
    },
    "special tokens are split": {
        "tokenizer_config.json": {"split_special_tokens": True, "added_tokens_decoder": {"102": PLAIN, "101": IM_END}}
    },
    "a name makes a token special": {
        "tokenizer_config.json": {
            "added_tokens_decoder": {"101": {**PLAIN, "content": "<|im_end|>"}},
            "eos_token": "<|im_end|>",
            "image_token": {"__type": "AddedToken", **PLAIN},
        }
    },
    "a marked token beside added_tokens.json": {
        "added_tokens.json": {"<img>": 102, "<|im_end|>": 101},
        "tokenizer_config.json": {"eos_token": {"__type": "AddedToken", **IM_END}, "pad_token": "<img>"},
    },
    "extra tokens of both files": {
        "tokenizer_config.json": {"additional_special_tokens": ["<|im_end|>"]},
        "special_tokens_map.json": {"additional_special_tokens": ["[PAD]"], "extra_special_tokens": ["<img>"]},
    },
    "extra tokens in a list": {"tokenizer_config.json": {"extra_special_tokens": ["<img>", "<|im_end|>"]}},
}
GOLDENS = json.loads((Path(__file__).parent / "goldens" / "tokens.json").read_text())["folders"]
each_folder = pytest.mark.parametrize("name", FOLDERS)


def write(folder: Path, files: dict[str, object]) -> Path:
    """A byte-level tokenizer without merges whose "</s>" is token 100, "hi" is a word of the vocabulary, and the folder's other files."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[:98]
    tokenizer = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate([*alphabet, "<unk>", "hi"])}, merges=[("h", "i")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
    assert tokenizer.token_to_id("</s>") == 100
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    return folder


def theirs(folder: Path) -> dict[str, Any]:
    """What transformers reads of a folder."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    texts = dict(tokenizer.special_tokens_map)
    extra = [str(token) for token in tokenizer.extra_special_tokens or []]
    return described(
        tokenizer.added_tokens_decoder,
        ids=tokenizer.encode(TEXT, add_special_tokens=False),
        texts={**texts, "additional_special_tokens": extra} if extra else texts,
        eos=tokenizer.eos_token_id,
    )


def ours(folder: Path) -> dict[str, Any]:
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    ids = tokenizer.encode(TEXT, add_special_tokens=False).ids
    return described(tokenizer.get_added_tokens_decoder(), ids=ids, texts=special_texts(folder), eos=tokenizer_eos(folder))


def described(added: dict[int, AddedToken], **others: Any) -> dict[str, Any]:
    """As JSON would have it."""
    flags = {str(place): [token.content, token.special, token.lstrip, token.rstrip, token.normalized] for place, token in added.items()}
    return {"added": flags, **others}


@each_folder
def test_tokens_are_those_that_transformers_reads(tmp_path, name):
    assert ours(write(tmp_path, FOLDERS[name])) == GOLDENS[name]


@each_folder
def test_the_golden_is_what_transformers_reads_today(tmp_path, name):
    pytest.importorskip("transformers")
    assert theirs(write(tmp_path, FOLDERS[name])) == GOLDENS[name]


WORDS = ("<img>", "<|im_end|>", "[PAD]", "</s>", "hi")
NAMED = ("bos_token", "eos_token", "pad_token", "image_token", "audio_token")


@st.composite
def folders(draw):
    """Files that name tokens in any of the places at once; a token has the same flags wherever they are told."""
    flag, word = st.booleans(), st.sampled_from(WORDS)
    flags = {text: {"content": text, **{name: draw(flag) for name in ("lstrip", "rstrip", "normalized", "special")}} for text in WORDS}
    marked = word.flatmap(lambda text: st.sampled_from((text, {"__type": "AddedToken", **flags[text]})))
    plain = word.flatmap(lambda text: st.sampled_from((text, flags[text])))
    own = st.dictionaries(st.sampled_from(("boi", "bos_token", "image_token")), marked, max_size=2)
    config = draw(st.dictionaries(st.sampled_from(NAMED), marked, max_size=3))
    others = {
        "extra_special_tokens": st.lists(marked, max_size=2) | own,
        "additional_special_tokens": st.lists(marked, max_size=2),
        "model_specific_special_tokens": own,
        "split_special_tokens": flag,
        "added_tokens_decoder": st.dictionaries(st.sampled_from(("100", "101", "102", "104")), word.map(flags.get), max_size=3),
    }
    names = draw(st.sets(st.sampled_from(tuple(others)), max_size=3))
    files = {"tokenizer_config.json": config | {name: draw(others[name]) for name in sorted(names)}}
    if draw(flag):
        files["special_tokens_map.json"] = draw(st.dictionaries(st.sampled_from(NAMED), plain, max_size=2))
    if draw(flag):
        files["added_tokens.json"] = dict(zip(draw(st.permutations(WORDS[:3])), (101, 102, 103), strict=True))
    return files


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=folders())
def test_files_that_name_tokens_in_many_places_are_read_as_transformers_reads_them(tmp_path_factory, files):
    pytest.importorskip("transformers")
    folder = write(tmp_path_factory.mktemp("drawn"), files)
    assert ours(folder) == theirs(folder)


def test_folders_that_differ_have_goldens_that_differ():
    assert len({json.dumps(golden, sort_keys=True) for golden in GOLDENS.values()}) == len(FOLDERS) == len(GOLDENS)


def encoded(folder: Path) -> list[str]:
    tokens = load_tokenizer(folder / "tokenizer.json").encode(TEXT, add_special_tokens=False).tokens
    return [token.strip() for token in tokens]  # rstrip takes the space into the token


@pytest.mark.parametrize("name", [name for name in FOLDERS if "alone" not in name and "flags" not in name])
def test_a_token_that_another_file_names_is_one_token(tmp_path, name):
    assert "<img>" in encoded(write(tmp_path, FOLDERS[name])) or "<|im_end|>" in encoded(tmp_path)


def test_a_token_that_no_file_names_is_pieces(tmp_path):
    assert not {"<img>", "<|im_end|>", "[PAD]"} & set(encoded(write(tmp_path, {})))


def test_the_whole_tokenizer_has_the_added_tokens(tmp_path):
    assert tokenizer_text(tmp_path) is None
    whole = Tokenizer.from_str(tokenizer_text(write(tmp_path, FOLDERS["added_tokens_decoder"])))
    assert whole.token_to_id("<img>") == 102


def test_the_end_is_named_by_text(tmp_path):
    assert tokenizer_eos(write(tmp_path, {"tokenizer_config.json": {"eos_token": "</s>"}})) == 100
    assert tokenizer_eos(write(tmp_path, {"tokenizer_config.json": {"eos_token": "hi"}})) == 99
    assert tokenizer_eos(write(tmp_path, {"tokenizer_config.json": {"eos_token": None}})) is None
    (tmp_path / "tokenizer.json").unlink()
    assert tokenizer_eos(tmp_path) is None


@pytest.mark.parametrize(
    "files, message",
    [
        ({"tokenizer_config.json": {"eos_token": 3}}, r"tokenizer_config\.json: eos_token must be a token's text.*got 3"),
        ({"tokenizer_config.json": {"added_tokens_decoder": {"x": PLAIN}}}, "added_tokens_decoder: x must be named by a token id"),
        ({"tokenizer_config.json": {"additional_special_tokens": 5}}, "additional_special_tokens must be a list of tokens"),
        ({"tokenizer_config.json": {"model_specific_special_tokens": ["<img>"]}}, "model_specific_special_tokens must be an object"),
        ({"tokenizer_config.json": {"model_specific_special_tokens": {"boi": None}}}, "boi must be a token's text"),
        ({"tokenizer_config.json": {"split_special_tokens": "yes"}}, "split_special_tokens must be true or false, got 'yes'"),
        ({"added_tokens.json": {"<img>": "no"}}, r"added_tokens\.json must give each token its id"),
        ({"special_tokens_map.json": []}, r"special_tokens_map\.json must hold a JSON object"),
    ],
)
def test_a_file_that_is_not_what_it_must_be_is_named(tmp_path, files, message):
    with pytest.raises(ConfigError, match=message):
        load_tokenizer(write(tmp_path, files) / "tokenizer.json")
