"""The text model of a checkpoint that reads pictures computes what the whole does of text."""

import importlib.util
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from muxjax.errors import CheckpointError
from muxjax.models.convert import convert
from muxjax.models.weights import load
from muxjax.specs.config import read_spec
from tests.models.golden import dense_logits, make_model, read_golden, worst_row

needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs torch and transformers, which pin Python")
TOKENS = tuple(np.random.RandomState(0).randint(0, 150, 100).tolist())
LIKE = {
    "gemma3": ("Gemma3", "gemma3", "gemma3_text"),
    "mistral": ("Mistral3", "mistral3", "mistral"),
    "ministral3": ("Mistral3", "mistral3", "ministral3"),
    "qwen3": ("Qwen3VL", "qwen3_vl", "qwen3_vl_text"),
}
SPELLINGS = {
    "old": lambda name: f"language_model.{name}",
    "new": lambda name: name.replace("model.", "model.language_model.", 1),
}


@needs_torch
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", ["Gemma3", "Mistral3", "Mistral3 of Ministral 3", "Qwen2VL", "Qwen2_5_VL", "Qwen3VL"])
def test_logits_are_those_of_transformers(tmp_path, name, tied):
    from tests.models import pictures

    model = pictures.make(name, tmp_path, tied=tied)
    spec = read_spec(tmp_path)
    assert spec.tied == tied
    assert worst_row(dense_logits(spec, load(tmp_path, spec, progress=False), TOKENS), pictures.logits(model, TOKENS)) < 1e-5


def beside_pictures(name, folder, spelling):
    """The folder of a golden's model as one that reads pictures, too."""
    architecture, model_type, text_type = LIKE[name]
    make_model(name, folder, read_golden(name).seed)
    text = json.loads((folder / "config.json").read_text())
    outer = {key: text.pop(key) for key in ("dtype", "architectures")}
    outer |= {"architectures": [f"{architecture}ForConditionalGeneration"], "model_type": model_type, "vision_config": {"depth": 3}}
    text["model_type"] = text_type
    (folder / "config.json").write_text(json.dumps(outer | {"text_config": text, "image_token_id": 7}))
    tensors = {SPELLINGS[spelling](own): tensor for own, tensor in load_file(folder / "model.safetensors").items()}
    tower = {"vision_tower.head.weight": np.zeros((3, 2), np.float32), "model.visual.pos": np.zeros(3, np.float32)}
    save_file(tensors | tower, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", LIKE)
def test_under_either_spelling_it_is_the_text_model_alone(tmp_path, name, spelling):
    golden, folder = read_golden(name), beside_pictures(name, tmp_path, spelling)
    spec = read_spec(folder)
    assert spec == read_spec(make_model(name, tmp_path / "alone", golden.seed))
    found = dense_logits(spec, load(folder, spec, progress=False), golden.longest)
    assert worst_row(found[golden.positions], golden.logits) < 1e-5


@pytest.mark.parametrize("name", LIKE)
def test_converted_it_is_a_text_model_alone(tmp_path, name):
    folder = beside_pictures(name, tmp_path / "whole", "new")
    convert(folder, tmp_path / "orbax", progress=False)
    convert(tmp_path / "orbax", tmp_path / "back", progress=False)
    spec = read_spec(folder)
    alone = make_model(name, tmp_path / "alone", read_golden(name).seed)
    assert load_file(tmp_path / "back" / "model.safetensors").keys() == load_file(alone / "model.safetensors").keys()
    assert "ForCausalLM" in (tmp_path / "back" / "config.json").read_text()
    for converted in ("orbax", "back"):
        assert read_spec(tmp_path / converted) == spec
        found = dense_logits(spec, load(tmp_path / converted, spec, progress=False), TOKENS)
        np.testing.assert_array_equal(found, dense_logits(spec, load(folder, spec, progress=False), TOKENS))


def test_a_tensor_of_neither_is_still_refused(tmp_path):
    folder = beside_pictures("mistral", tmp_path, "old")
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"language_model.model.layers.0.strange": np.zeros(2, np.float32)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.layers\.0\.strange"):
        load(folder, read_spec(folder), progress=False)
