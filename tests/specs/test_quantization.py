"""quantization_config: what is read of it, and how what is not served is refused."""

import json
from dataclasses import replace

import pytest

from muxjax.cost.chip import H200, MeshSpec
from muxjax.cost.measured import shipped
from muxjax.cost.roofline import Roofline, decode_work, weight_bytes
from muxjax.engine.options import ModelOptions
from muxjax.errors import ConfigError
from muxjax.quantization import INT4, Quantization
from muxjax.specs import published
from muxjax.specs.config import read_spec, to_hf_config
from tests.models.quantised import DENSE, MIXTURE, awq_config, compressed, fine_grained, gptq_config, packed_config

ALL = ("qkv", "o", "gate_up", "down")
GPTQ = gptq_config()([])
CHANNELS = {"g": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "channel"}}}
BLOCKS = fine_grained(weight_block_size=[128, 128])([])


def read(folder, said, spec=DENSE, **options):
    (folder / "config.json").write_text(json.dumps(to_hf_config(spec) | {"quantization_config": said}))
    return read_spec(folder, **options).quantization


@pytest.mark.parametrize(
    ("said", "group"),
    [
        (compressed("tensor")([]), None),
        (compressed("channel")(["lm_head"]), None),
        (compressed("block", block_structure=[128, 128])([]), 128),
        (BLOCKS, 128),
        (BLOCKS | {"scale_fmt": "ue8m0"}, 128),
        ({"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"]}, None),
        (compressed("channel")([]) | {"kv_cache_scheme": {"num_bits": 8}, "sparsity_config": {}, "global_compression_ratio": 1.5}, None),
    ],
)
def test_what_is_read_is_what_devices_hold(tmp_path, said, group):
    assert read(tmp_path, said) == Quantization(kinds=ALL, group=group)


@pytest.mark.parametrize(
    ("said", "group", "has_zeros"),
    [
        (GPTQ, 64, True),
        (GPTQ | {"group_size": -1, "sym": True, "true_sequential": True, "static_groups": False}, None, True),
        (awq_config(["lm_head"]), 64, True),
        (packed_config(symmetric=False)([]), 64, True),
        (packed_config(symmetric=True, actorder="static")([]), 64, False),
        (packed_config(symmetric=True)([]) | {"config_groups": CHANNELS}, None, False),
    ],
)
def test_int4_is_held_in_groups_with_zeros_or_without(tmp_path, said, group, has_zeros):
    assert read(tmp_path, said) == Quantization(kinds=ALL, group=group, dtype=INT4, has_zeros=has_zeros)


@pytest.mark.parametrize("said", [GPTQ | {"desc_act": True}, packed_config(symmetric=True, actorder="group")([])])
def test_groups_by_activations_are_widened_with_a_word_of_it(tmp_path, caplog, said):
    assert read(tmp_path, said) is None
    assert "its weights are widened to float32: no kind of matrices can be held as it is stored" in caplog.text


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (BLOCKS | {"modules_to_not_convert": ["model.layers.0.mlp.down_proj"]}, {"down"}),
        (BLOCKS | {"modules_to_not_convert": ["q_proj", "lm_head"]}, {"qkv"}),
        (BLOCKS | {"modules_to_not_convert": ["self_attn"]}, {"qkv", "o"}),
        (BLOCKS | {"modules_to_not_convert": ["model.layers.1"]}, set(ALL)),
        (BLOCKS | {"modules_to_not_convert": ["proj", "model.layers.7", "model.lay"]}, set()),
        (compressed("channel")(["re:.*self_attn.*"]), {"qkv", "o"}),
        (compressed("channel")(["re:self_attn", "down_proj", "model.layers.1.mlp.up_proj"]), {"gate_up"}),
    ],
)
def test_kinds_with_a_module_that_is_left_are_not_held_so(tmp_path, said, left):
    held = read(tmp_path, said)
    assert set(ALL) - set(held.kinds if held else ()) == left


def test_experts_are_held_so_and_routers_never(tmp_path):
    assert read(tmp_path, BLOCKS, MIXTURE).kinds == (*ALL, "expert_gate_up", "expert_down")
    left = BLOCKS | {"modules_to_not_convert": ["model.layers.1.mlp.experts.2.up_proj", "mlp.gate"]}
    assert read(tmp_path, left, MIXTURE).kinds == (*ALL, "expert_down")


@pytest.mark.parametrize(
    ("said", "field"),
    [
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True},
            "bitsandbytes quantises while its own programs load: give the folder",
        ),
        ({"quant_method": "marlin"}, "its order of numbers is for one kernel: give the folder of the model in bfloat16"),
        (
            {"quant_method": "quark"},
            "quant_method must be one of compressed-tensors, fp8, gptq, awq; give the folder of the model",
        ),
        ({"quant_method": ["gptq"]}, "quant_method must be one of"),
        ({"bits": 4}, "quant_method must be one of"),
        (BLOCKS | {"weight_block_size": [64, 128]}, r"weight_block_size must be \[128, 128\] or left out"),
        (BLOCKS | {"dequantize": True}, "dequantize must be False or left out"),
        (BLOCKS | {"rotation": "hadamard"}, "rotation must be left out: it is not known, and may change answers"),
        (BLOCKS | {"modules_to_not_convert": "lm_head"}, "modules_to_not_convert must be a list of names"),
        (compressed("group", group_size=32)([]), "strategy must be 'tensor' or 'channel' or 'block'"),
        (compressed("channel", num_bits=4)([]), "num_bits must be 8"),
        (compressed("channel", type="int")([]), "type must be 'float'"),
        (compressed("block", block_structure=[64, 64])([]), r"block_structure must be \[128, 128\]"),
        (
            compressed("channel")([]) | {"format": "nvfp4-pack-quantized"},
            "format must be float-quantized or pack-quantized; give",
        ),
        (packed_config(symmetric=True, actorder="random")([]), "actorder must be 'weight' or 'static' or 'group' or 'dynamic'"),
        (packed_config(symmetric=True)([]) | {"format": "marlin-24"}, "format must be float-quantized or pack-quantized; give"),
        (GPTQ | {"bits": 8}, "bits must be 4"),
        (GPTQ | {"is_marlin_format": True}, "is_marlin_format must be False"),
        (GPTQ | {"checkpoint_format": "marlin"}, "checkpoint_format must be 'gptq' or 'gptq_v2'"),
        (GPTQ | {"dynamic": {"-:q_proj": {}}}, "dynamic must be"),
        (GPTQ | {"group_size": 0}, "group_size must be a whole number over 0"),
        (awq_config([]) | {"version": "gemv"}, "version must be 'gemm'"),
        (awq_config([]) | {"zero_point": False}, "zero_point must be true"),
        (compressed("channel")([]) | {"transform_config": {"config_groups": {}}}, "transform_config must be"),
        (compressed("channel")([]) | {"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity_config must be"),
        (compressed("channel")([]) | {"config_groups": {}}, "config_groups must be one group"),
        (compressed("channel")(["re:(*"]), "ignore must be names, or patterns behind re: that can be read"),
    ],
)
def test_what_is_not_served_is_refused_by_its_name(tmp_path, said, field):
    with pytest.raises(ConfigError, match=field):
        read(tmp_path, said)


def test_a_wish_is_for_models_in_which_nothing_is_quantised(tmp_path):
    config = to_hf_config(DENSE)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_spec(tmp_path, quantization="fp8").quantization == Quantization(kinds=ALL)
    assert read(tmp_path, BLOCKS, quantization="fp8") == Quantization(kinds=ALL, group=128)
    with pytest.raises(ConfigError, match="quantization=fp8 is for weights that are not quantised yet, and these are in int4"):
        read(tmp_path, GPTQ, quantization="fp8")


@pytest.mark.parametrize("left", ["language_model.model.layers.1.self_attn.k_proj", "re:model.language_model.*k_proj", "re:.*k_proj"])
def test_modules_may_be_named_as_beside_what_reads_pictures(tmp_path, left):
    assert read(tmp_path, compressed("channel")(["re:vision_tower.*", left])).kinds == ("o", "gate_up", "down")


def test_activations_of_prompts_are_rounded_where_it_is_wished_and_each_output_has_a_scale(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(to_hf_config(DENSE)))
    assert read_spec(tmp_path, quantization="fp8_w8a8").quantization == Quantization(kinds=ALL, rounds_prompts=True)
    assert read(tmp_path, compressed("channel")([]), quantization="fp8_w8a8") == Quantization(kinds=ALL, rounds_prompts=True)
    assert read(tmp_path, compressed("channel")([])) == Quantization(kinds=ALL)
    with pytest.raises(ConfigError, match="quantization=fp8_w8a8 is for a scale of each output, and these weights have scales of blocks"):
        read(tmp_path, BLOCKS, quantization="fp8_w8a8")
    with pytest.raises(ConfigError, match=r"quantization must be one of fp8, fp8_w8a8; .*, got 'int3'"):
        ModelOptions(name="m", path=tmp_path, quantization="int3")


def test_matrices_that_do_not_divide_into_groups_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="must divide into groups of 128 inputs; down has 200"):
        read(tmp_path, BLOCKS, replace(DENSE, ffn=200))


def test_a_decode_costs_what_is_read():
    """Of an 8B model in fp8: half of its layers' bytes, and the head whole."""
    spec, mesh = published.BY_NAME["llama-3.1-8b"], MeshSpec(chip=H200)
    narrow = replace(spec, quantization=Quantization(kinds=ALL))
    layers = spec.params - 2 * spec.vocab * spec.width
    assert weight_bytes(narrow, mesh) == pytest.approx(2 * spec.params - layers, rel=1e-3)
    assert decode_work(narrow, mesh, 1, 0).weight_bytes == pytest.approx(2 * spec.vocab * spec.width + layers, rel=1e-3)
    assert decode_work(spec, mesh, 1, 0).weight_bytes == 2 * (spec.params - spec.vocab * spec.width)
    assert shipped(H200).decode_s(narrow, mesh, 1, 100) == Roofline().decode_s(narrow, mesh, 1, 100)
