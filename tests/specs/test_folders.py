"""Paths that are no checkpoint: told what they are."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from muxjax.errors import CheckpointError, ConfigError, MuxError
from muxjax.specs.adapter import read_adapter_config
from muxjax.specs.config import read_spec
from muxjax.specs.folders import no_weights, require_model_folder, require_tokenizer
from muxjax.specs.weight_files import SINGLE
from tests.specs.test_config import LLAMA

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n"


def refusal(path) -> str:
    with pytest.raises(ConfigError) as refused:
        require_model_folder(path)
    assert refused.value.field == "path"
    return str(refused.value)


def test_a_path_that_is_no_folder_says_what_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    (tmp_path / "m.txt").write_text("")
    assert "m.gguf is no folder: it is a file; GGUF is not served" in refusal(tmp_path / "m.gguf")
    assert "m.txt is no folder: it is a file" in refusal(tmp_path / "m.txt")
    assert f"{tmp_path / 'absent'} is no folder: nothing is there" in refusal(tmp_path / "absent")
    assert "hf download" not in refusal(tmp_path / "absent")
    (tmp_path / "absence").mkdir()
    assert refusal(tmp_path / "absent").endswith(f"did you mean {tmp_path / 'absence'}?")
    assert "hf download someone/some-model-1.5B --local-dir DIR" in refusal((tmp_path / "someone/some-model-1.5B").relative_to(tmp_path))


def test_a_folder_of_an_adapter_that_is_not_there_is_asked_for_what_an_adapter_has(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing is there; give the folder that holds the adapter's adapter_config\.json"):
        read_adapter_config(tmp_path / "absent", most_rank=8)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_path_that_none_can_be_is_refused(tmp_path, name):
    assert len(refusal(tmp_path / name)) < 1000


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], "LoRA adapter, which is served over a model: .*--lora OTHER=FOLDER:NAME"),
        (["model.Q4_K_M.gguf"], "GGUF is not served"),
        (["params.json", "consolidated.00.pth"], "take the one for transformers"),
        ([], "a Hugging Face or Orbax folder has one"),
    ],
)
def test_a_folder_without_a_config_says_what_it_has(tmp_path, files, said):
    for name in files:
        (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match=said):
        read_spec(tmp_path)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            ["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"],
            r"holds model-00001-of-00003\.safetensors, model-00003-of-00003\.safetensors, but lacks model\.safetensors\.index\.json, "
            r"model-00002-of-00003\.safetensors: download the rest$",
        ),
        (["weights.safetensors"], r"holds weights\.safetensors, but neither model\.safetensors nor model\.safetensors\.index\.json"),
        (["adapter_model.safetensors"], "LoRA adapter"),
        (["pytorch_model.bin"], "pickled weights.*save_pretrained"),
        (["a.gguf"], r"holds a\.gguf: GGUF is not served"),
        ([], "holds no weights"),
    ],
)
def test_a_folder_without_weights_of_the_usual_name_says_which_files_it_has(tmp_path, files, said):
    for name in files:
        (tmp_path / name).write_text("")
    with pytest.raises(CheckpointError, match=said):
        raise no_weights(tmp_path)


@pytest.mark.parametrize("name", ["config.json", SINGLE, "tokenizer.json"])
def test_a_pointer_of_git_lfs_is_told_from_its_file(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | {"tie_word_embeddings": True}))
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / SINGLE)
    (tmp_path / name).write_text(POINTER)
    with pytest.raises(MuxError, match=rf"{name} is a pointer of git-lfs, not the file: run `git lfs pull`"):
        read_spec(tmp_path)
        require_tokenizer(tmp_path)


def test_a_tokenizer_of_another_format_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"tokenizer\.json is missing$"):
        require_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text("")
    with pytest.raises(ConfigError, match=r"the folder has vocab\.json, of which transformers makes one: AutoTokenizer"):
        require_tokenizer(tmp_path)


def test_a_folder_of_models_is_told_their_names(tmp_path):
    for name in ("small", "big"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert refusal(tmp_path).endswith("a Hugging Face or Orbax folder has one; big, small in it have one: give that folder")
