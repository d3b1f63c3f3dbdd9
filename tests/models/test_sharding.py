"""What each device holds of a model."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from muxjax.errors import ConfigError
from muxjax.experts import Experts
from muxjax.model_spec import ModelSpec
from muxjax.models.decoder import param_shapes
from muxjax.models.hf_weights import split_stacks
from muxjax.models.safetensors_io import SINGLE
from muxjax.models.sharding import OWN, Devices, partition
from muxjax.models.shares import Share, part
from muxjax.models.tree import flat
from muxjax.models.weights import dummy, load
from tests.models.golden import seeded_tensors

SPEC = ModelSpec(
    vocab=42,
    width=16,
    layers=2,
    heads=8,
    kv_heads=4,
    head_dim=8,
    ffn=24,
    max_len=64,
    windows=(None, None),
    qkv_bias=True,
    out_bias=True,
    mlp_bias=True,
    qk_norm="head",
    dtype="float32",
)
EXPERTS = Experts(count=3, per_token=2, ffn=24, layers=(1,), shared_ffn=8)
MIXTURES = {
    "a tensor an expert": {"experts": replace(EXPERTS, shared_gate=True)},
    "experts in one tensor": {"experts": EXPERTS, "naming": "granitemoe"},
    "sigmoids": {"experts": replace(EXPERTS, sigmoid=True), "naming": "glm4_moe"},
    "gate and up alternate": {
        "experts": replace(EXPERTS, shared_ffn=0, biases=True, clamp=7.0),
        "naming": "gpt_oss",
        "sinks": True,
    },
    "no layer without": {"experts": replace(EXPERTS, layers=(0, 1), shared_ffn=0), "naming": "mixtral", "mlp_bias": False},
}
WHOLE = flat(dummy(SPEC))


@pytest.fixture
def folder(tmp_path):
    save_file(seeded_tensors(SPEC, 0), tmp_path / SINGLE)
    return tmp_path


def parts(path: str, tp: int) -> list[np.ndarray]:
    return [part(path, np.asarray(WHOLE[path]), SPEC, share) for share in Share.each(tp)]


def tensors(spec: ModelSpec, path: str, array: np.ndarray) -> dict[str, np.ndarray]:
    return dict(split_stacks([(path, array)], spec))


def rejoined(whole: np.ndarray, pieces: list[np.ndarray]) -> np.ndarray:
    """Laid side by side along the axis in which a piece is smaller; any of them where none is."""
    axes = [axis for axis, size in enumerate(whole.shape) if pieces[0].shape[axis] != size]
    return np.concatenate(pieces, axis=axes[0]) if axes else pieces[0]


@pytest.mark.parametrize("tp", [1, 2, 4])
@pytest.mark.parametrize("path", WHOLE)
def test_the_parts_of_every_tensor_are_the_whole_in_the_order_of_the_devices(path, tp):
    """By Hugging Face's names, of which a fused array holds several; what is beyond the vocabulary is zero."""
    shares = [tensors(SPEC.share(tp), path, array) for array in parts(path, tp)]
    for name, whole in tensors(SPEC, path, np.asarray(WHOLE[path])).items():
        joined = rejoined(whole, [tensors[name] for tensors in shares])
        np.testing.assert_array_equal(joined[: len(whole)], whole)
        assert not joined[len(whole) :].any()


def test_columns_cut_where_they_lie_would_mix_q_with_k():
    """Why a fused array is cut matrix by matrix."""
    whole = np.asarray(WHOLE["layers.qkv"])
    naive = np.split(whole, 2, axis=-1)
    assert not any(np.array_equal(mine, wrong) for mine, wrong in zip(parts("layers.qkv", 2), naive, strict=True))


@pytest.mark.parametrize("tp", [2, 4])
def test_each_device_holds_the_parameters_of_its_share(tp):
    expected = {path: leaf.shape for path, leaf in flat(param_shapes(SPEC.share(tp))).items()}
    assert {path: parts(path, tp)[-1].shape for path in WHOLE} == expected


def test_a_share_of_one_is_the_model_itself():
    assert SPEC.share(1) == SPEC


@pytest.mark.parametrize(
    ("tp", "changes", "said"),
    [
        (8, {}, "tensor_parallel_size must be a divisor of num_key_value_heads=4, got 8"),
        (2, {"experts": replace(EXPERTS, ffn=25)}, "tensor_parallel_size must be a divisor of intermediate_size of each expert=25, got 2"),
        (2, {"experts": replace(EXPERTS, shared_ffn=9)}, "must be a divisor of intermediate_size of the shared expert=9, got 2"),
        (3, {"heads": 3, "kv_heads": 3, "ffn": 25}, "tensor_parallel_size must be a divisor of intermediate_size=25, got 3"),
    ],
)
def test_a_model_that_cannot_be_shared_out_is_refused_with_the_number(tp, changes, said):
    with pytest.raises(ConfigError, match=said) as caught:
        replace(SPEC, **changes).share(tp)
    assert caught.value.field == "tensor_parallel_size"


def test_the_ffn_of_no_layer_need_not_be_shared_out():
    experts = replace(EXPERTS, layers=(0, 1))
    assert replace(SPEC, ffn=25, experts=experts, mlp_bias=False).splits(2) and not replace(SPEC, ffn=25, experts=EXPERTS).splits(2)


@pytest.mark.parametrize("name", MIXTURES)
def test_parameters_are_counted_as_they_are_declared(name):
    spec = replace(SPEC, **MIXTURES[name])
    assert spec.params == sum(leaf.size for leaf in flat(param_shapes(spec)).values())
    idle = spec.experts.count - spec.experts.per_token
    each = 3 * spec.width * spec.experts.ffn + spec.experts.biases * (2 * spec.experts.ffn + spec.width)
    assert spec.params - spec.active_params == idle * len(spec.experts.layers) * each


def test_more_devices_than_there_are_is_refused_with_the_number():
    count = len(jax.devices())
    with pytest.raises(ConfigError, match=f"tensor_parallel_size must be at most the number of devices, {count}, got {count + 1}"):
        Devices.first(count + 1)


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_loaded_and_random_parameters_lie_on_their_devices(folder, tp):
    devices = Devices.first(tp)
    for make in (dummy, partial(load, folder, progress=False)):
        whole = flat(make(SPEC))
        for path, array in flat(make(SPEC, devices)).items():
            assert [shard.device for shard in array.addressable_shards] == list(devices.each)
            for share, shard in zip(Share.each(tp), array.addressable_shards, strict=True):
                np.testing.assert_array_equal(shard.data, part(path, np.asarray(whole[path]), SPEC, share))


@pytest.mark.parametrize("tp", [1, 2, 4])
@pytest.mark.parametrize(
    "variant",
    [{"naming": "phi3"}, {"naming": "glm4", "post_norms": True}, {"qk_norm": "projection"}, *MIXTURES.values()],
    ids=str,
)
def test_devices_read_their_parts_of_fused_tensors_of_norms_over_all_heads_and_of_experts(tmp_path, variant, tp):
    """What lies in one tensor is q, k and v, or gate and up, or all experts, of which a device has a part each."""
    spec = replace(SPEC, **variant)
    save_file(seeded_tensors(spec, 0), tmp_path / SINGLE)
    for make in (dummy, partial(load, tmp_path, progress=False)):
        whole = {path: np.asarray(array) for path, array in flat(make(spec)).items()}
        for path, array in flat(make(spec, Devices.first(tp))).items():
            for share, shard in zip(Share.each(tp), array.addressable_shards, strict=True):
                np.testing.assert_array_equal(shard.data, part(path, whole[path], spec, share))


def test_arrays_that_lie_apart_are_joined_in_place():
    devices = Devices.first(2)
    pools = [jax.device_put(np.full((3, 4), index), device) for index, device in enumerate(devices.each)]
    whole = devices.join(pools, OWN)
    assert (whole.shape, whole.sharding) == ((6, 4), devices.joined(pools[0], OWN).sharding)
    np.testing.assert_array_equal(whole, np.repeat([0, 1], 3)[:, None] * np.ones(4, int))
    assert [shard.data.unsafe_buffer_pointer() for shard in whole.addressable_shards] == [pool.unsafe_buffer_pointer() for pool in pools]


def test_one_device_is_used_as_if_there_were_no_mesh(folder):
    alone = Devices.first(1)
    loaded = load(folder, SPEC, alone, progress=False)["layers"]["qkv"]
    assert alone.mesh is None
    assert loaded.sharding == jax.sharding.SingleDeviceSharding(alone.each[0]) == alone.sharding(partition("layers.qkv", 3, SPEC))
