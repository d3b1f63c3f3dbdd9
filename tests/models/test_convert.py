"""Hugging Face to Orbax and back, bit for bit, or not at all."""

import json
import shutil
from dataclasses import replace

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import load_file, save_file

from muxjax.errors import CheckpointError, ConfigError
from muxjax.experts import Experts
from muxjax.model_spec import ModelSpec
from muxjax.models import convert as module
from muxjax.models.checkpoint import PARAMS
from muxjax.models.convert import convert
from muxjax.models.safetensors_io import SINGLE
from muxjax.models.weights import load
from muxjax.specs.config import read_spec, to_hf_config
from tests.models.golden import seeded_tensors

SPEC = ModelSpec(vocab=40, width=16, layers=2, heads=4, kv_heads=2, head_dim=8, ffn=24, max_len=64, windows=(None, None), qk_norm="head")


EXPERTS = Experts(count=3, per_token=2, ffn=24, layers=(1,))
MIXTURES = {
    "qwen3_moe": {"experts": EXPERTS},
    "granitemoeshared": {
        "experts": replace(EXPERTS, layers=(0, 1), shared_ffn=8),
        "naming": "granitemoe",
        "qk_norm": None,
        "attention_scale": 1.0,
    },
    "glm4_moe": {"experts": replace(EXPERTS, shared_ffn=24, sigmoid=True), "naming": "glm4_moe"},
}


@pytest.fixture
def folder(tmp_path):
    """A Hugging Face folder whose tensors have three dtypes, with a tokenizer and things that are none of ours."""
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(to_hf_config(SPEC)))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "optimizer.pt").write_bytes(b"large")
    tensors = seeded_tensors(SPEC, 0)
    dtypes = {name: np.float32 if "norm" in name else np.float16 if "embed" in name else ml_dtypes.bfloat16 for name in tensors}
    save_file({name: tensor.astype(dtypes[name]) for name, tensor in tensors.items()}, folder / SINGLE)
    return folder


@pytest.mark.parametrize("shard_bytes", [2**30, 3000])
def test_a_round_trip_keeps_every_bit(folder, tmp_path, monkeypatch, shard_bytes):
    monkeypatch.setattr(module, "SHARD_BYTES", shard_bytes)
    convert(folder, tmp_path / "orbax", progress=False)
    convert(tmp_path / "orbax", tmp_path / "back", progress=False)
    before, files = load_file(folder / SINGLE), sorted((tmp_path / "back").glob("*.safetensors"))
    after = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert (len(files) > 1) == (shard_bytes == 3000)
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert (after[name].dtype, after[name].shape) == (tensor.dtype, tensor.shape)
        assert after[name].tobytes() == tensor.tobytes(), name


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_goes_there_and_back_too(tmp_path, name):
    """Experts in tensors of their own or in one, layers unlike each other, a bias that stays float32."""
    spec, folder = replace(SPEC, **MIXTURES[name]), tmp_path / "hf"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(to_hf_config(spec)))
    before = {
        name: tensor.astype(ml_dtypes.bfloat16 if tensor.ndim > 1 else np.float32) for name, tensor in seeded_tensors(spec, 0).items()
    }
    save_file(before, folder / SINGLE)
    convert(folder, tmp_path / "orbax", progress=False)
    convert(tmp_path / "orbax", tmp_path / "back", progress=False)
    after = load_file(tmp_path / "back" / SINGLE)
    assert after.keys() == before.keys()
    assert all((after[name].dtype, after[name].tobytes()) == (tensor.dtype, tensor.tobytes()) for name, tensor in before.items())
    loaded = load(tmp_path / "orbax", spec, progress=False)
    jax.tree.map(np.testing.assert_array_equal, loaded, load(folder, spec, progress=False))
    assert "choice_bias" not in loaded["layers"] or loaded["layers"]["choice_bias"].dtype == np.float32


@pytest.mark.parametrize("to", ["orbax", "back"])
def test_lines_tell_how_much_has_been_read_where_no_bar_is_drawn(folder, tmp_path, capsys, monkeypatch, to):
    monkeypatch.setattr("muxjax.progress.SAY_S", 0.0)
    convert(folder, tmp_path / "orbax", progress=to == "orbax")
    if to == "back":
        convert(tmp_path / "orbax", tmp_path / to)
    begin, *_, end = capsys.readouterr().err.splitlines()
    whole = begin.removeprefix(f"{to}: ")
    assert whole.endswith("KiB") and end == f"{to}: {whole} of {whole}"


def test_what_stands_beside_the_weights_comes_along(folder, tmp_path):
    convert(folder, tmp_path / "orbax", progress=False)
    beside = {file.name: file.read_text() for file in (tmp_path / "orbax").iterdir() if file.is_file()}
    assert beside == {file.name: file.read_text() for file in folder.iterdir() if file.suffix in (".json", ".jinja")}


def test_what_only_the_weights_say_is_said_by_the_copied_config(folder, tmp_path):
    """The dtype that config.json does not name, and a head of its own of a model that it calls tied."""
    silent = {name: value for name, value in to_hf_config(SPEC).items() if name != "torch_dtype"} | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(silent))
    convert(folder, tmp_path / "orbax", progress=False)
    spec = read_spec(tmp_path / "orbax")
    assert spec == read_spec(folder)
    assert (spec.dtype, spec.tied) == ("bfloat16", False)
    assert "head" in load(tmp_path / "orbax", spec, progress=False)


def test_both_formats_load_as_the_same_parameters_on_the_device(folder, tmp_path):
    convert(folder, tmp_path / "orbax", progress=False)
    spec = read_spec(tmp_path / "orbax", dtype="float32")
    loaded = load(tmp_path / "orbax", spec, progress=False)
    jax.tree.map(np.testing.assert_array_equal, loaded, load(folder, spec, progress=False))
    assert {type(leaf).__name__ for leaf in jax.tree.leaves(loaded)} == {"ArrayImpl"}
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(loaded)} == {"float32"}


def test_an_orbax_folder_of_another_model_is_refused(folder, tmp_path):
    convert(folder, tmp_path / "orbax", progress=False)
    with pytest.raises(CheckpointError, match=r"embed \[40, 16\] instead of \[41, 16\]"):
        load(tmp_path / "orbax", replace(SPEC, vocab=41), progress=False)
    with pytest.raises(CheckpointError, match=r"lacks 2 of 13 tensors: layers\.down_bias, layers\.gate_up_bias$"):
        load(tmp_path / "orbax", replace(SPEC, mlp_bias=True), progress=False)
    with pytest.raises(CheckpointError, match=r"beyond .* 1 of \d+ tensors: head"):
        load(tmp_path / "orbax", replace(SPEC, tied=True), progress=False)


def test_an_orbax_folder_of_a_tree_with_q_k_and_v_apart_is_refused_with_the_way_out(tmp_path):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / PARAMS, {"embed": np.zeros((40, 16)), "layers": {kind: np.zeros((2, 16, 16)) for kind in "qkv"}})
    with pytest.raises(CheckpointError, match=r"holds q, k, v, gate and up apart, .*: convert the model to Orbax again$"):
        load(tmp_path, SPEC, progress=False)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax leaves its other reads to their fate
def test_damaged_orbax_folders_are_refused(folder, tmp_path):
    convert(folder, tmp_path / "orbax", progress=False)
    params = tmp_path / "orbax" / "params"
    for file in params.glob("**/d/*"):
        file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="params"):
        load(tmp_path / "orbax", SPEC, progress=False)
    shutil.rmtree(params)
    params.mkdir()
    with pytest.raises(CheckpointError, match="no readable Orbax checkpoint"):
        load(tmp_path / "orbax", SPEC, progress=False)


def test_an_empty_folder_may_be_the_target_and_a_full_one_may_not(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    convert(folder, tmp_path / "empty", progress=False)
    assert (tmp_path / "empty" / "params").is_dir()
    with pytest.raises(ConfigError, match="must be an empty folder"):
        convert(folder, tmp_path / "empty", progress=False)
    with pytest.raises(ConfigError, match="must be an empty folder"):
        convert(folder, folder / SINGLE, progress=False)


def test_a_failed_conversion_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    def fail_late(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(module, "save", fail_late)
    with pytest.raises(OSError, match="disk full"):
        convert(folder, tmp_path / "new" / "orbax", progress=False)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_damaged_source_makes_no_target(folder, tmp_path):
    (folder / SINGLE).write_bytes(b"")
    with pytest.raises(CheckpointError, match="damaged"):
        convert(folder, tmp_path / "orbax", progress=False)
    assert not (tmp_path / "orbax").exists()
