"""Quantised checkpoints compute what the weights do that they stand for; and whatever is not as it must be is refused by name."""

import importlib.util
import json
import math
from collections import Counter
from dataclasses import replace

import jax
import numpy as np
import pytest

from muxjax.errors import CheckpointError, ConfigError
from muxjax.models.convert import convert
from muxjax.models.safetensors_io import SINGLE
from muxjax.models.sharding import Devices, device_bytes
from muxjax.models.stored.files import StoredTensors
from muxjax.models.tensors import NUMBERS, Tensor, layer_tensors
from muxjax.models.tree import flat
from muxjax.models.weights import dummy, load
from muxjax.quantization import FP8, INT4, Quantization
from muxjax.specs.config import read_spec
from tests.models.golden import FOLDER, dense_logits, worst_row
from tests.models.quantised import DENSE, FORMS, SPECS, WIDENED, make_quantised, write_tensors

TOKENS = (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3)
ROUNDING = 2e-5
"""Of float32, where products of groups are added up in another order; a wrong scale is thousands of times as far off."""
needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs torch and transformers, which pin Python")
forms, specs = pytest.mark.parametrize("form", FORMS), pytest.mark.parametrize("spec", SPECS)


def logits(folder, **options):
    spec = read_spec(folder, **options)
    return dense_logits(spec, load(folder, spec, progress=False), TOKENS)


def numbers(params) -> set[str]:
    """Names of matrices that are held as numbers and scales."""
    held = flat(params)
    assert all(held[path].dtype.name in (FP8, INT4) for path in held if f"{path}_scale" in held)
    return {path for path in held if f"{path}_scale" in held}


@specs
@forms
def test_logits_are_those_of_the_weights_it_stands_for(tmp_path, form, spec):
    quantised, meant = make_quantised(tmp_path, SPECS[spec], FORMS[form])
    assert worst_row(logits(quantised), logits(meant)) < ROUNDING
    kinds = {"gate_up", "down"} | ({"expert_gate_up", "expert_down"} if SPECS[spec].experts else set())
    kinds |= {"shared_gate_up", "shared_down"} if spec == "latent" else {"qkv", "o"}
    held = read_spec(quantised)
    assert numbers(load(quantised, held, progress=False)) == {f"layers.{kind}" for kind in kinds}


@specs
@pytest.mark.parametrize("form", WIDENED)
def test_groups_by_activations_are_widened(tmp_path, form, spec):
    quantised, meant = make_quantised(tmp_path, SPECS[spec], WIDENED[form])
    assert worst_row(logits(quantised), logits(meant)) < ROUNDING
    assert numbers(load(quantised, read_spec(quantised), progress=False)) == set()


@pytest.mark.parametrize("name", ["deepseek_v2", "deepseek_v3"])
def test_attention_over_latents_is_widened_and_the_rest_held(tmp_path, name):
    spec = read_spec(FOLDER / name)
    quantised, meant = make_quantised(tmp_path, spec, FORMS["compressed, by channel"])
    assert worst_row(logits(quantised), logits(meant)) < ROUNDING
    params, held = load(quantised, read_spec(quantised), progress=False), read_spec(quantised)
    assert {path.removeprefix("layers.") for path in numbers(params)} == set(held.quantization.kinds if held.quantization else ())
    assert "layers.o" not in numbers(params) and "layers.expert_down" in numbers(params)
    assert sum(map(device_bytes, flat(params).values())) == int(held.weight_bytes(4))


@needs_torch
@pytest.mark.parametrize("form", ["compressed, by channel", "fine-grained fp8", "gptq", "awq", "packed"])
def test_logits_are_those_of_transformers(tmp_path, form):
    """Of the weights it stands for."""
    from tests.models.torch_reference import TorchModel

    quantised, meant = make_quantised(tmp_path, DENSE, FORMS[form])
    torch = TorchModel(meant)
    assert torch.mismatched == ()
    assert worst_row(logits(quantised), torch.logits(TOKENS)) < 1e-4


@needs_torch
def test_blocks_are_what_transformers_makes_of_them(tmp_path):
    from transformers import FineGrainedFP8Config

    from tests.models.torch_reference import TorchModel

    quantised, _ = make_quantised(tmp_path, DENSE, FORMS["fine-grained fp8"])
    torch = TorchModel(quantised, quantization_config=FineGrainedFP8Config(dequantize=True, weight_block_size=(128, 128)))
    assert worst_row(logits(quantised), torch.logits(TOKENS)) < 1e-4


@forms
def test_in_bfloat16_it_is_as_near_as_bfloat16_is(tmp_path, form):
    quantised, meant = make_quantised(tmp_path, DENSE, FORMS[form])
    exact = logits(meant)
    assert worst_row(logits(quantised, dtype="bfloat16"), exact) < 1.5 * worst_row(logits(meant, dtype="bfloat16"), exact)


@pytest.mark.parametrize("tp", [2])
@specs
@forms
def test_devices_hold_their_parts_of_numbers_and_scales(tmp_path, form, spec, tp):
    quantised, _ = make_quantised(tmp_path, SPECS[spec], FORMS[form])
    held = read_spec(quantised)
    params, parts = (flat(load(quantised, held, Devices.first(count), progress=False)) for count in (1, tp))
    for path, whole in params.items():
        if not any(kind in path for kind in ("qkv", "gate_up")):  # whose matrices side by side are cut each for itself
            np.testing.assert_array_equal(np.asarray(parts[path], np.float32), np.asarray(whole, np.float32))
    assert sum(map(device_bytes, parts.values())) < 0.6 * sum(map(device_bytes, params.values()))


def test_bytes_are_counted_as_they_are_held(tmp_path):
    for name, spec in SPECS.items():
        for form in ("compressed, by channel", "fine-grained fp8", "gptq", "packed, symmetric"):
            quantised, _ = make_quantised(tmp_path / name / form, spec, FORMS[form])
            held = read_spec(quantised)
            for tp in (1, 2):
                assert sum(map(device_bytes, flat(load(quantised, held, Devices.first(tp), progress=False)).values())) == int(
                    held.share(tp).weight_bytes(4)
                )


@specs
def test_a_kind_with_a_module_that_is_not_quantised_is_held_whole(tmp_path, spec):
    """And computes the same: k of one layer is as it was, so all of q, k and v are widened."""
    left = "model.layers.1.self_attn.qkv_proj" if spec == "fused" else "model.layers.1.self_attn.k_proj"
    quantised, meant = make_quantised(tmp_path, SPECS[spec], FORMS["fine-grained fp8"], ignored=("lm_head", left))
    assert worst_row(logits(quantised), logits(meant)) < ROUNDING
    assert "layers.qkv" not in numbers(load(quantised, read_spec(quantised), progress=False))


def test_patterns_say_what_is_left_as_it_was(tmp_path):
    ignored = tuple(f"model.layers.{layer}.mlp.down_proj" for layer in range(2))
    quantised, meant = make_quantised(tmp_path, DENSE, FORMS["compressed, by channel"], ignored=("lm_head", *ignored))
    change_quantization(quantised, lambda said: {**said, "ignore": ["lm_head", "re:.*down_proj$"]})
    assert worst_row(logits(quantised), logits(meant)) < ROUNDING
    assert read_spec(quantised).quantization == Quantization(kinds=("qkv", "o", "gate_up"))


@specs
@pytest.mark.parametrize("form", ["compressed, by channel", "fine-grained fp8", "awq"])
def test_orbax_holds_the_same_numbers(tmp_path, form, spec):
    quantised, _ = make_quantised(tmp_path, SPECS[spec], FORMS[form])
    convert(quantised, tmp_path / "orbax", progress=False)
    held = read_spec(tmp_path / "orbax")
    assert held == read_spec(quantised)
    for tp in (1, 2):
        one, other = (load(folder, held, Devices.first(tp), progress=False) for folder in (quantised, tmp_path / "orbax"))
        jax.tree.map(np.testing.assert_array_equal, one, other)
    with pytest.raises(ConfigError, match="holds quantised weights, which are converted to Orbax alone"):
        convert(tmp_path / "orbax", tmp_path / "back", progress=False)


@specs
def test_a_model_is_quantised_while_it_is_loaded_by_a_scale_of_each_output(tmp_path, spec):
    _, folder = make_quantised(tmp_path, SPECS[spec], FORMS["compressed, by channel"])
    held = read_spec(folder, quantization="fp8")
    params, plain = flat(load(folder, held, progress=False)), flat(load(folder, read_spec(folder), progress=False))
    assert numbers(load(folder, held, progress=False)) == {path for path in plain if f"{path}_scale" in params}
    for path in plain:
        if f"{path}_scale" not in params:
            np.testing.assert_array_equal(params[path], plain[path])
            continue
        scale, whole = np.asarray(params[f"{path}_scale"]), np.asarray(plain[path])
        np.testing.assert_allclose(scale, np.abs(whole).max(axis=-2, keepdims=True) / 448, rtol=1e-6)
        error = np.abs(np.asarray(params[path], np.float32) * scale - whole)
        assert (error <= np.maximum(np.abs(whole) / 16, scale * 2**-10) * 1.0001).all()  # half a step of three bits, or of the smallest


@pytest.mark.parametrize("tp", [1, 2])
def test_it_is_the_same_on_several_devices(tmp_path, tp):
    _, folder = make_quantised(tmp_path, DENSE, FORMS["compressed, by channel"])
    held = read_spec(folder, quantization="fp8")
    one, params = (flat(load(folder, held, Devices.first(count), progress=False)) for count in (1, tp))
    for path in ("layers.o", "layers.down", "layers.o_scale", "layers.down_scale"):
        np.testing.assert_array_equal(params[path], one[path])


@specs
@pytest.mark.parametrize("tp", [1, 2])
def test_what_is_quantised_while_it_is_loaded_is_read_once(tmp_path, monkeypatch, tp, spec):
    """But for matrices whose inputs devices share out: a scale takes whole rows, and the host has no room for the other one's part."""
    _, folder = make_quantised(tmp_path, SPECS[spec], FORMS["compressed, by channel"])
    held, plain, read = read_spec(folder, quantization="fp8"), StoredTensors.read, Counter[str]()
    assert held.quantization
    cut = {name for kind, tensor in layer_tensors(held).items() if tensor.split == -2 for name in of_checkpoint(tensor)}

    def counted(files, name, index):
        found = plain(files, name, index)
        read[name] += found.size
        return found

    monkeypatch.setattr(StoredTensors, "read", counted)
    load(folder, held, Devices.first(tp), progress=False)
    quantised = [name for kind in held.quantization.kinds for name in of_checkpoint(layer_tensors(held)[kind])]
    assert len(quantised) > 6 and cut.intersection(quantised)
    shapes = StoredTensors(folder).shapes
    times = {name: read[name] / math.prod(shapes[name]) for name in quantised}
    assert times == {name: 1 + (tp - 1) / tp if name in cut else 1 for name in quantised}


def of_checkpoint(tensor: Tensor) -> list[str]:
    """Names of a kind's tensors, of every layer and expert."""
    names = [name.removesuffix(NUMBERS).format(expert) for name in tensor.names for expert in range(max(1, tensor.experts))]
    return [f"model.layers.{layer}.{name}" for layer in tensor.layers for name in names]


@specs
def test_random_ones_have_the_same_tree_and_little_noise(tmp_path, spec):
    _, folder = make_quantised(tmp_path, SPECS[spec], FORMS["compressed, by channel"])
    held = read_spec(folder, quantization="fp8")
    described = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), load(folder, held, progress=False))
    params = dummy(held)
    assert described == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params)
    row = dense_logits(held, params, TOKENS)
    assert np.isfinite(row).all() and 0.1 < np.abs(row).max() < 100


def change(folder, **tensors):
    """Rewrites the file with some tensors replaced, added, or (None) left out."""
    files = StoredTensors(folder)
    kept = {name: files.read(name, tuple(slice(0, size) for size in shape)) for name, shape in files.shapes.items()}
    kept |= {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    write_tensors(folder / SINGLE, {name: tensor for name, tensor in kept.items() if tensor is not None})


def change_quantization(folder, changed):
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = changed(config["quantization_config"])
    (folder / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


Q = "model__layers__0__self_attn__q_proj__"


@pytest.mark.parametrize(
    ("form", "tensors", "said"),
    [
        (
            "fine-grained fp8",
            {f"{Q}weight_scale_inv": None},
            r"q_proj\.weight is stored as F8_E4M3, and needs a scale in",
        ),
        ("fine-grained fp8", {f"{Q}weight_scale_inv": np.ones((2, 3), np.float32)}, r"q_proj\.weight_scale_inv \[2, 3\] must be \[2, 2\]"),
        ("fine-grained fp8", {f"{Q}weight": np.ones((256, 256), np.float32)}, r"beyond what its config describes, .*weight_scale_inv$"),
        (
            "fine-grained fp8",
            {f"{Q}weight": np.ones((256, 256), np.float32), f"{Q}weight_scale_inv": None},
            r"q_proj\.weight is stored as float32, and config\.json says that it is quantised",
        ),
        ("compressed, by channel", {f"{Q}weight_scale": np.ones((255, 1), np.float32)}, r"\[255, 1\] must be \[\], \[1\] or \[256, 1\]"),
        ("compressed, by channel", {f"{Q}weight": None}, r"holds, beyond what its config describes|lacks"),
        ("gptq", {f"{Q}qzeros": None}, r"q_proj\.qzeros must be \[4, 32\], got none"),
        ("gptq", {f"{Q}scales": np.ones((2, 256), np.float16)}, r"q_proj\.scales must be \[4, 256\], got \[2, 256\]"),
        ("gptq", {f"{Q}g_idx": np.zeros(256, np.int32)}, r"inputs of .*q_proj\.weight are in groups by the order of activations"),
        ("awq", {f"{Q}qweight": np.ones((256, 16), np.int32)}, r"q_proj\.scales must be \[4, 128\], got \[4, 256\]"),
        ("awq", {f"{Q}qweight": np.ones((100, 32), np.int32)}, "q_proj.qweight has 100 inputs, which are no groups of 64"),
        (
            "packed, symmetric",
            {f"{Q}weight_zero_point": np.ones((32, 4), np.int32)},
            r"q_proj\.weight_zero_point is there, and config\.json",
        ),
        ("packed", {f"{Q}weight_scale": None}, r"q_proj\.weight_scale must be \[256, 4\], got none"),
        ("packed", {f"{Q}weight_packed": np.ones((256, 24), np.int32)}, r"weight_scale must be \[256, 3\], got \[256, 4\]"),
        ("gptq", {f"{Q}qweight": np.ones((32, 256), np.int64)}, r"q_proj\.qweight is stored as I64; supported are I32$"),
        ("awq", {f"{Q}qzeros": np.ones((4, 32), np.float32)}, r"q_proj\.qzeros is stored as F32; supported are I32$"),
        ("gptq by activations", {f"{Q}g_idx": np.zeros(256, np.float32)}, r"q_proj\.g_idx is stored as F32; supported are I32, I64$"),
        ("packed", {f"{Q}weight_scale": np.ones((256, 4), np.int32)}, r"weight_scale is stored as I32; supported are BF16, F16, F32$"),
        ("compressed, by channel", {f"{Q}weight_scale": np.ones((256, 1), np.int32)}, r"weight_scale is stored as I32; supported are BF16"),
    ],
)
def test_a_tensor_that_is_not_as_it_must_be_is_named(tmp_path, form, tensors, said):
    folder, _ = make_quantised(tmp_path, DENSE, (FORMS | WIDENED)[form])
    change(folder, **tensors)
    with pytest.raises(CheckpointError, match=said):
        load(folder, read_spec(folder), progress=False)


def test_numbers_without_a_word_of_them_in_the_config_are_refused(tmp_path):
    folder, _ = make_quantised(tmp_path, DENSE, FORMS["fine-grained fp8"])
    change_quantization(folder, lambda said: None)
    with pytest.raises(CheckpointError, match=r"is stored as F8_E4M3, and config\.json has no quantization_config"):
        load(folder, read_spec(folder), progress=False)


def test_matrices_that_lie_whole_in_orbax_are_not_quantised(tmp_path):
    _, folder = make_quantised(tmp_path, DENSE, FORMS["fine-grained fp8"])
    convert(folder, tmp_path / "orbax", progress=False)
    with pytest.raises(CheckpointError, match=r"holds layers\.\w+ in float32: matrices are quantised while they come from a Hugging Face"):
        load(tmp_path / "orbax", read_spec(tmp_path / "orbax", quantization="fp8"), progress=False)


def test_weights_that_are_not_finite_are_not_quantised(tmp_path):
    _, folder = make_quantised(tmp_path, DENSE, FORMS["fine-grained fp8"])
    change(folder, **{f"{Q}weight": np.full((256, 256), np.inf, np.float32)})
    with pytest.raises(CheckpointError, match=r"q_proj\.weight cannot be quantised: it has numbers that are not finite"):
        load(folder, read_spec(folder, quantization="fp8"), progress=False)


def test_devices_that_would_cut_a_group_are_refused(tmp_path):
    folder, _ = make_quantised(tmp_path, replace(DENSE, ffn=384, heads=4), FORMS["fine-grained fp8"])
    with pytest.raises(ConfigError, match="tensor_parallel_size must be a divisor of groups of 128 inputs of o=1, got 2"):
        read_spec(folder).share(2)
