"""Checkpoints to parameters: everything in its place, and nothing else accepted."""

import dataclasses
import json

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from muxjax.errors import CheckpointError
from muxjax.experts import Experts
from muxjax.model_spec import ModelSpec
from muxjax.models.decoder import param_shapes
from muxjax.models.safetensors_io import INDEX, SINGLE, write_shards
from muxjax.models.weights import dummy, load
from muxjax.specs.config import read_spec, to_hf_config
from tests.models.golden import dense_logits, seeded_tensors

SPEC = ModelSpec(
    vocab=40, width=16, layers=2, heads=4, kv_heads=2, head_dim=8, ffn=24, max_len=64, windows=(None, None), qkv_bias=True, dtype="float32"
)


@pytest.fixture
def folder(tmp_path):
    """A whole Hugging Face folder of SPEC, in one file."""
    (tmp_path / "config.json").write_text(json.dumps(to_hf_config(SPEC)))
    save_file(seeded_tensors(SPEC, 0), tmp_path / SINGLE)
    return tmp_path


def change(folder, **tensors):
    """Rewrites the file with some tensors replaced, added, or (None) left out."""
    kept = load_file(folder / SINGLE) | {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    save_file({name: tensor for name, tensor in kept.items() if tensor is not None}, folder / SINGLE)


def described(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def test_each_tensor_lands_in_its_layer_turned_round(folder):
    params, tensors = load(folder, SPEC, progress=False), load_file(folder / SINGLE)
    np.testing.assert_array_equal(params["layers"]["down"][1], tensors["model.layers.1.mlp.down_proj.weight"].T)
    np.testing.assert_array_equal(params["layers"]["o"][0], tensors["model.layers.0.self_attn.o_proj.weight"].T)
    np.testing.assert_array_equal(params["layers"]["mlp_norm"][0], tensors["model.layers.0.post_attention_layernorm.weight"])
    np.testing.assert_array_equal(params["embed"], tensors["model.embed_tokens.weight"])
    np.testing.assert_array_equal(params["head"], tensors["lm_head.weight"].T)


@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (4, 2), (6, 1), (16, 1), (32, 2)])
def test_what_shares_an_input_lies_side_by_side(tmp_path, heads, kv_heads):
    """All q heads, then all k heads, then all v heads; gate, then up; and their biases alike."""
    spec = dataclasses.replace(SPEC, heads=heads, kv_heads=kv_heads, mlp_bias=True)
    tensors = seeded_tensors(spec, 0)
    save_file(tensors, tmp_path / SINGLE)
    layers = load(tmp_path, spec, progress=False)["layers"]
    fused = {"qkv": [f"self_attn.{part}_proj" for part in "qkv"], "gate_up": ["mlp.gate_proj", "mlp.up_proj"]}
    for kind, modules in fused.items():
        for layer in range(spec.layers):
            weights, biases = ([tensors[f"model.layers.{layer}.{module}.{of}"].T for module in modules] for of in ("weight", "bias"))
            np.testing.assert_array_equal(layers[kind][layer], np.concatenate(weights, axis=1))
            np.testing.assert_array_equal(layers[f"{kind}_bias"][layer], np.concatenate(biases))


def test_the_tree_has_the_shapes_of_the_decoder(folder):
    assert described(load(folder, SPEC, progress=False)) == described(param_shapes(SPEC))


def test_shards_hold_the_same_as_one_file(folder):
    whole = load(folder, SPEC, progress=False)
    tensors = load_file(folder / SINGLE)
    (folder / SINGLE).unlink()
    write_shards(folder, tensors.items(), shard_bytes=4000)
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 2
    jax.tree.map(np.testing.assert_array_equal, load(folder, SPEC, progress=False), whole)


def test_a_tensor_larger_than_a_piece_is_read_whole(folder, monkeypatch):
    whole = load(folder, SPEC, progress=False)
    monkeypatch.setattr("muxjax.models.safetensors_io._PIECE_BYTES", 200)
    jax.tree.map(np.testing.assert_array_equal, load(folder, SPEC, progress=False), whole)


@pytest.mark.parametrize("stored", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("wanted", ["float32", "float16", "bfloat16"])
def test_every_stored_dtype_is_cast_to_the_one_wanted(folder, stored, wanted):
    tensors = {name: tensor.astype(stored) for name, tensor in load_file(folder / SINGLE).items()}
    save_file(tensors, folder / SINGLE)
    params = load(folder, dataclasses.replace(SPEC, dtype=wanted), progress=False)
    np.testing.assert_array_equal(params["embed"], tensors["model.embed_tokens.weight"].astype(wanted))


def test_what_the_config_makes_superfluous_is_ignored(folder):
    tied = dataclasses.replace(SPEC, tied=True)
    change(folder, model__layers__0__self_attn__rotary_emb__inv_freq=np.ones(4, np.float32))
    assert "head" not in load(folder, tied, progress=False)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"model__norm__weight": None}, r"lacks 1 of 27 tensors: model\.norm\.weight$"),
        ({"lm_head__weight": None}, r"lacks 1 of 27 tensors: lm_head\.weight$"),
        (
            {"model__layers__0__self_attn__o_proj__bias": np.zeros(16, np.float32)},
            r"holds, beyond .* 1 of 28 .*layers\.0\.self_attn\.o_proj\.bias",
        ),
        ({f"extra__{i}": np.zeros(1, np.float32) for i in range(7)}, r"extra\.0, extra\.1, extra\.2, extra\.3, extra\.4 and 2 more"),
        ({"model__layers__1__self_attn__k_proj__weight": None}, r"lacks 1 of 27 tensors: model\.layers\.1\.self_attn\.k_proj\.weight$"),
        ({"model__layers__0__mlp__up_proj__weight": None}, r"lacks 1 of 27 tensors: model\.layers\.0\.mlp\.up_proj\.weight$"),
        (
            {"model__layers__1__self_attn__v_proj__weight": np.zeros((32, 16), np.float32)},
            r"layers\.1\.self_attn\.v_proj\.weight \[32, 16\] instead of \[16, 16\]$",
        ),
        ({"model__norm__weight": np.zeros(15, np.float32)}, r"model\.norm\.weight \[15\] instead of \[16\]"),
        ({"lm_head__weight": np.zeros((16, 40), np.float32)}, r"lm_head\.weight \[16, 40\] instead of \[40, 16\]"),
        ({"model__norm__weight": np.zeros(16, np.float64)}, r"model\.norm\.weight is stored as F64; supported are BF16, F16, F32"),
    ],
)
def test_a_tensor_too_few_too_many_or_of_another_shape_is_named(folder, tensors, said):
    change(folder, **tensors)
    with pytest.raises(CheckpointError, match=said):
        load(folder, SPEC, progress=False)


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        (
            "base_model.model.",
            r"names its tensors base_model\.model\.lm_head\.weight and so on: peft saved it.*merge_and_unload",
        ),
        ("module.", r"names its tensors module\.lm_head\.weight .*data parallelism"),
        ("thinker.", r"names its tensors thinker\.lm_head\.weight .*a larger model.* is not supported"),
    ],
)
def test_a_prefix_before_all_names_is_told_with_what_puts_it_there(folder, prefix, said):
    tensors = load_file(folder / SINGLE)
    save_file({prefix + name: tensor for name, tensor in tensors.items()} | {"vision.patch": np.zeros(1, np.float32)}, folder / SINGLE)
    with pytest.raises(CheckpointError, match=said):
        load(folder, SPEC, progress=False)
    save_file({prefix + name: tensor for name, tensor in tensors.items() if "norm" not in name}, folder / SINGLE)
    with pytest.raises(CheckpointError, match="lacks 27 of 27"):
        load(folder, SPEC, progress=False)


def test_a_truncated_file_is_refused(folder):
    whole = (folder / SINGLE).read_bytes()
    for size in (0, 4, 100, len(whole) - 1):
        (folder / SINGLE).write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="damaged"):
            load(folder, SPEC, progress=False)


def test_a_shard_that_is_gone_is_named(folder):
    (folder / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"model-00001-of-00002\.safetensors does not exist"):
        load(folder, SPEC, progress=False)


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', '{"weight_map": {"a": null}}'])
def test_a_broken_index_is_refused(folder, index):
    (folder / INDEX).write_text(index)
    with pytest.raises(CheckpointError, match="weight_map"):
        load(folder, SPEC, progress=False)


def test_a_tied_model_answers_by_the_head_that_its_folder_holds(folder):
    """As transformers 5: a head that differs is used, one that is a copy is not held twice."""
    (folder / "config.json").write_text(json.dumps(to_hf_config(dataclasses.replace(SPEC, tied=True))))
    tensors = load_file(folder / SINGLE)
    differs = read_spec(folder)
    np.testing.assert_array_equal(load(folder, differs, progress=False)["head"], tensors["lm_head.weight"].T)
    change(folder, lm_head__weight=tensors["model.embed_tokens.weight"])
    copied = read_spec(folder)
    assert (differs.tied, copied.tied) == (False, True)
    assert "head" not in load(folder, copied, progress=False)


def test_shards_without_an_index_are_named(folder):
    (folder / SINGLE).rename(folder / "model-00001-of-00002.safetensors")
    with pytest.raises(
        CheckpointError, match=r"holds model-00001-of-00002\.safetensors, but lacks model\.safetensors\.index\.json, model-00002"
    ):
        load(folder, SPEC, progress=False)


def test_pickled_weights_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="save_pretrained"):
        load(tmp_path, SPEC, progress=False)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no weights: neither model\.safetensors"):
        load(tmp_path, SPEC, progress=False)


def test_the_bar_counts_the_bytes_of_the_file(folder, capsys):
    load(folder, SPEC)
    total = sum(tensor.nbytes for tensor in load_file(folder / SINGLE).values())
    assert f"{total / 1000:.1f}k/{total / 1000:.1f}k" in capsys.readouterr().err


def test_dummy_weights_need_no_file_and_repeat_by_seed(tmp_path):
    made = load(tmp_path, SPEC, load_format="dummy")
    assert described(made) == described(param_shapes(SPEC))
    jax.tree.map(np.testing.assert_array_equal, made, dummy(SPEC, seed=0))
    assert not np.array_equal(made["embed"], dummy(SPEC, seed=1)["embed"])
    assert not np.array_equal(made["layers"]["down"][0], made["layers"]["down"][1])


def test_dummy_weights_keep_activations_at_their_size():
    spec = dataclasses.replace(SPEC, layers=8, windows=(None,) * 8)
    spread = dense_logits(spec, dummy(spec), tuple(range(32))).std()
    assert 0.3 < spread < 3


def test_what_predicts_further_tokens_behind_the_last_layer_is_not_read_of_a_glm_alone(tmp_path):
    experts = Experts(count=3, per_token=2, ffn=8, layers=(1,), shared_ffn=8, sigmoid=True)
    spec = dataclasses.replace(SPEC, naming="glm4_moe", experts=experts)
    tensors = seeded_tensors(spec, 0)
    save_file(tensors | {"model.layers.2.eh_proj.weight": np.zeros((16, 32), np.float32)}, tmp_path / SINGLE)
    assert load(tmp_path, spec, progress=False)["layers"]["router"].shape == (1, 16, 3)
    save_file(tensors | {"model.layers.3.eh_proj.weight": np.zeros((16, 32), np.float32)}, tmp_path / SINGLE)
    with pytest.raises(CheckpointError, match=r"beyond what its config describes, 1 of"):
        load(tmp_path, spec, progress=False)
    other = dataclasses.replace(spec, naming="llama", experts=dataclasses.replace(experts, sigmoid=False))
    save_file(seeded_tensors(other, 0) | {"model.layers.2.eh_proj.weight": np.zeros((16, 32), np.float32)}, tmp_path / SINGLE)
    with pytest.raises(CheckpointError, match=r"eh_proj"):
        load(tmp_path, other, progress=False)
