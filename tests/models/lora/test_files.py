"""Folders of adapters: what is taken, and what is refused by name."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from muxjax.errors import MuxError
from muxjax.models.lora.files import open_adapter, read_adapter
from muxjax.specs.adapter import CONFIG, WEIGHTS
from tests.models.adapter import make_adapter
from tests.models.test_weights import SPEC

Q = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"


@pytest.fixture
def folder(tmp_path):
    return make_adapter(tmp_path / "adapter", SPEC, 1)


def read(folder, most_rank=8):
    return read_adapter(open_adapter("one", folder, SPEC, most_rank=most_rank), SPEC, most_rank=most_rank)


def change_config(folder, **fields):
    (folder / CONFIG).write_text(json.dumps(json.loads((folder / CONFIG).read_text()) | fields))


def change_tensors(folder, **tensors):
    """None takes one away; names by layer and half of q."""
    held = load_file(folder / WEIGHTS)
    for name, tensor in tensors.items():
        _, layer, half = name.split("_")
        held.pop(Q.format(layer, half), None)
        held |= {} if tensor is None else {Q.format(layer, half): tensor}
    save_file(held, folder / WEIGHTS)


def test_the_halves_of_a_target_lie_where_its_matrix_does_and_b_is_scaled(folder):
    pairs, held = read(folder).pairs, load_file(folder / WEIGHTS)
    a, b = held[Q.format(1, "A")], held[Q.format(1, "B")]
    np.testing.assert_array_equal(pairs["qkv"].a[1, 0], a)
    np.testing.assert_array_equal(pairs["qkv"].b[0][1], 2 * b.T)  # lora_alpha 8 over r 4
    assert not pairs["qkv"].a[:, 1].any()
    assert not pairs["gate_up"].a.any()
    change_config(folder, use_rslora=True)
    np.testing.assert_array_equal(read(folder).pairs["qkv"].b[0][1], 4 * b.T)  # over its root


def test_an_adapter_over_a_decoder_that_was_stored_alone_is_the_same(folder):
    before = read(folder).pairs["qkv"].a.copy()
    save_file(
        {name.replace("model.model.model.", "model.model."): tensor for name, tensor in load_file(folder / WEIGHTS).items()},
        folder / WEIGHTS,
    )
    np.testing.assert_array_equal(read(folder).pairs["qkv"].a, before)


def test_layers_that_have_no_part_stay_as_they_are(folder):
    change_tensors(folder, q_0_A=None, q_0_B=None)
    assert not read(folder).pairs["qkv"].a[0, 0].any()
    assert read(folder).pairs["qkv"].a[1, 0].any()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"use_dora": True}, "use_dora must be False or left out, got True"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save must be \[\] or left out"),
        ({"bias": "all"}, "bias must be 'none' or left out"),
        ({"peft_type": "IA3"}, "peft_type must be 'LORA' or left out, got 'IA3'"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights must be True or False or 'gaussian' or 'eva' or left out, got 'pissa'"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"r": 9}, "r must be at most max_lora_rank=8 of the model, got 9"),
        ({"r": 0}, "r must be a whole number over 0"),
        ({"r": None}, "r is missing"),
        ({"lora_alpha": -1}, "lora_alpha must be a number over 0"),
        ({"new_maths": 3, "older_maths": 1}, "has fields that are not known, so that answers could be wrong: new_maths, older_maths"),
        ({"r": 2}, r"lora_A\.weight \[4, 16\] instead of \[2, 16\]"),
    ],
)
def test_a_configuration_that_asks_for_something_else_is_refused_by_the_name_of_its_field(folder, fields, said):
    change_config(folder, **fields)
    with pytest.raises(MuxError, match=said):
        read(folder)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"q_0_A": None}, r"lacks model\.layers\.0\.self_attn\.q_proj\.lora_A\.weight"),
        ({"q_1_B": None}, r"lacks model\.layers\.1\.self_attn\.q_proj\.lora_B\.weight"),
        ({"q_0_B": np.zeros((4, 32), np.float32)}, r"q_proj\.lora_B\.weight \[4, 32\] instead of \[32, 4\]"),
        (
            {"q_2_A": np.zeros((4, 16), np.float32), "q_2_B": np.zeros((32, 4), np.float32)},
            r"is not supported, for 2 of its 10 tensors .*layers\.2",
        ),
        ({"q_0_A": np.zeros((4, 16), np.int32)}, "is stored as I32; supported are BF16, F16, F32"),
        ({"q_0_A": np.full((4, 16), np.nan, np.float32)}, r"q_proj\.lora_A\.weight has numbers that are not finite"),
        ({"q_0_magnitude": np.zeros(4, np.float32)}, r"is not supported, for 1 of its 9 tensors .*lora_magnitude"),
    ],
)
def test_tensors_that_are_no_adapter_over_the_model_are_named(folder, tensors, said):
    change_tensors(folder, **tensors)
    with pytest.raises(MuxError, match=said):
        read(folder)


@pytest.mark.parametrize("module", ["lm_head", "model.embed_tokens"])
def test_an_adapter_over_the_vocabulary_is_not_supported(folder, module):
    save_file({f"base_model.model.{module}.lora_{half}.weight": np.zeros((4, 4), np.float32) for half in "AB"}, folder / WEIGHTS)
    with pytest.raises(MuxError, match=f"is not supported, for 2 of its 2 tensors are for no matrix of the model's layers.*{module}"):
        read(folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_file_that_is_missing_or_a_pointer_or_damaged_is_named(folder, name):
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n")
    with pytest.raises(MuxError, match=f"{name} is a pointer of git-lfs"):
        read(folder)
    (folder / name).write_text("?")
    with pytest.raises(MuxError, match=rf"{name} (cannot be read as JSON|is damaged)"):
        read(folder)
    (folder / name).unlink()
    with pytest.raises(MuxError, match=rf"{name} (does not exist|is damaged)"):
        read(folder)
    with pytest.raises(MuxError, match="is no folder"):
        open_adapter("one", folder / "absent", SPEC, most_rank=8)


def test_an_adapter_whose_file_has_changed_is_another_one(folder):
    adapter = open_adapter("one", folder, SPEC, most_rank=8)
    os.utime(folder / WEIGHTS, ns=(1, 1))
    assert open_adapter("one", folder, SPEC, most_rank=8) != adapter
    with pytest.raises(MuxError, match="has changed since the adapter one was added: remove it, and add it again"):
        read_adapter(adapter, SPEC, most_rank=8)


def test_looking_into_a_folder_takes_no_jax():
    code = "import sys, muxjax.models.lora.files; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
