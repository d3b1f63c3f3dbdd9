"""Experts in MXFP4, as GPT-OSS is published: read as the whole tensors they stand for."""

import importlib.util
import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from muxjax.errors import CheckpointError
from muxjax.models.convert import convert
from muxjax.models.safetensors_io import SINGLE
from muxjax.models.sharding import Devices
from muxjax.models.stored.mxfp4 import unpack
from muxjax.models.weights import load
from muxjax.specs.config import read_spec, to_hf_config
from tests.models.golden import seeded_tensors
from tests.models.test_sharding import SPEC as SHARED_OUT
from tests.specs.test_written_configs import VARIANTS, replace

SPEC = replace(SHARED_OUT, **VARIANTS["gpt_oss"], mlp_bias=False, qk_norm=None, width=64, ffn=96)
EXPERTS = ("gate_up_proj", "down_proj")


def random_blocks(out: int, inside: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks and scales of all experts' matrices, [X, out, inside]."""
    rng = np.random.default_rng(seed)
    assert SPEC.experts
    shape = (SPEC.experts.count, out, inside // 32)
    return rng.integers(0, 256, (*shape, 16), np.uint8), rng.integers(118, 126, shape, np.uint8)


@pytest.fixture
def folders(tmp_path):
    """The same model packed, and whole."""
    packed, whole = tmp_path / "packed", tmp_path / "whole"
    tensors = seeded_tensors(SPEC, 0)
    blocks = {}
    for layer in range(SPEC.layers):
        for kind in EXPERTS:
            name = f"model.layers.{layer}.mlp.experts.{kind}"
            _, inside, out = tensors[name].shape
            both = random_blocks(out, inside, layer)
            blocks |= {f"{name}_blocks": both[0], f"{name}_scales": both[1]}
            tensors[name] = np.ascontiguousarray(unpack(*both).swapaxes(1, 2).astype(np.float32))
    for folder, extra in ((packed, {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}}), (whole, {})):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(to_hf_config(SPEC) | extra))
    save_file(tensors, whole / SINGLE)
    save_file({name: tensor for name, tensor in tensors.items() if name + "_blocks" not in blocks} | blocks, packed / SINGLE)
    return packed, whole


def test_numbers_are_those_of_their_bits():
    """Of the type that ml_dtypes has for them, times a power of two."""
    blocks, scales = random_blocks(4, 64, 3)
    halves = np.stack([blocks & 15, blocks >> 4], axis=-1).astype(np.uint8)
    numbers = halves.view(ml_dtypes.float4_e2m1fn).astype(np.float32).reshape(*scales.shape, 32)
    expected = numbers * np.exp2(scales.astype(np.float32) - 127)[..., None]
    np.testing.assert_array_equal(unpack(blocks, scales).astype(np.float32), expected.reshape(*scales.shape[:-1], -1))
    assert unpack(np.full((1, 1, 16), 0x2F, np.uint8), np.full((1, 1), 128, np.uint8))[0, :2].tolist() == [-12.0, 2.0]


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch and transformers, which pin Python")
def test_numbers_are_those_of_transformers():
    import torch
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    blocks, scales = random_blocks(8, 64, 5)
    theirs = convert_moe_packed_tensors(torch.from_numpy(blocks), torch.from_numpy(scales)).float().numpy()
    np.testing.assert_array_equal(unpack(blocks, scales).swapaxes(1, 2).astype(np.float32), theirs)


@pytest.mark.parametrize("tp", [1, 2])
def test_a_packed_checkpoint_loads_as_the_whole_one(folders, tp, monkeypatch):
    """On two devices half a block's numbers are one's, as 96 are three blocks; also where few rows are read at once."""
    monkeypatch.setattr("muxjax.models.safetensors_io._PIECE_BYTES", 500)
    packed, whole = (load(folder, read_spec(folder), Devices.first(tp), progress=False) for folder in folders)
    jax.tree.map(np.testing.assert_array_equal, packed, whole)


def test_a_packed_checkpoint_is_converted_to_a_whole_one(folders, tmp_path):
    packed, whole = folders
    convert(packed, tmp_path / "orbax", progress=False)
    convert(tmp_path / "orbax", tmp_path / "back", progress=False)
    after, before = load_file(tmp_path / "back" / SINGLE), load_file(whole / SINGLE)
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[name].astype(np.float32), tensor) for name, tensor in before.items())
    assert "quantization_config" not in json.loads((tmp_path / "back" / "config.json").read_text())


def test_without_a_word_of_it_the_dtype_is_that_of_what_is_not_packed(folders):
    packed, _ = folders
    config = json.loads((packed / "config.json").read_text())
    (packed / "config.json").write_text(json.dumps(config | {"torch_dtype": None}))
    tensors = load_file(packed / SINGLE)
    save_file(
        {name: tensor if tensor.dtype == np.uint8 else tensor.astype(ml_dtypes.bfloat16) for name, tensor in tensors.items()},
        packed / SINGLE,
    )
    assert read_spec(packed).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors, name: tensors.pop(f"{name}_scales"), "gate_up_proj_blocks is stored as U8"),
        (lambda tensors, name: tensors.update({f"{name}_scales": tensors[f"{name}_scales"][:, :-1]}), "another shape"),
        (lambda tensors, name: tensors.update({name: np.zeros((6, 64, 192), np.float32)}), "whole and in MXFP4"),
    ],
)
def test_blocks_without_their_scales_are_refused(folders, tmp_path, change, said):
    packed = shutil.copytree(folders[0], tmp_path / "changed")
    tensors = load_file(packed / SINGLE)
    change(tensors, "model.layers.1.mlp.experts.gate_up_proj")
    save_file(tensors, packed / SINGLE)
    with pytest.raises(CheckpointError, match=said):
        load(packed, read_spec(packed), progress=False)
