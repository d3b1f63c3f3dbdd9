"""Models with an FP8 cache, alone and beside others on one arena: their tokens are those of a decoder that rounds its keys and values."""

import shutil
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from muxjax.errors import CheckpointError
from muxjax.models import decoder
from muxjax.models.attention import DenseMemory
from muxjax.models.weights import load
from muxjax.specs.config import read_spec
from tests.device.test_greedy_goldens import Serving, assert_golden
from tests.models.golden import make_model, read_golden

FP8, WHOLE = ("llama3_scaled", "qwen2_windowed", "gpt_oss"), ("mistral_windowed", "qwen3")
"""Windows in no layer and in some, experts with sinks; and neighbours that keep the arena's float32."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: make_model(name, tmp_path_factory.mktemp("models") / name, read_golden(name).seed) for name in (*FP8, *WHOLE)}


class Rounded(NamedTuple):
    """A memory of one whole sequence that rounds to FP8, written apart from the cache's; scales of each layer, of keys and of values."""

    scales_L: tuple[tuple[float, float], ...] = ()

    @property
    def present_T(self) -> bool:
        return True

    def attend(self, layer, scoring, q_THD, k_TKD, v_TKD, sink_H=None):
        k_scale, v_scale = jnp.asarray(self.scales_L or [(1.0, 1.0)] * 99)[layer]
        kv = rounded(k_TKD / k_scale) * k_scale, rounded(v_TKD / v_scale) * v_scale
        return DenseMemory().attend(layer, scoring, q_THD, *kv, sink_H)[0], self


def rounded(x):
    """To numbers of four significant bits, of which 2 ** -9 is the least step and 448 the most."""
    step = jnp.exp2(jnp.floor(jnp.log2(jnp.maximum(jnp.abs(x), 2.0**-6))) - 3)
    return jnp.clip(jnp.round(x / step) * step, -448, 448)


def continues(name: str, folder, memory, prompt: tuple[int, ...], tokens: list[int]) -> bool:
    """Each of the tokens is the likeliest one behind those before it, by a decoder with that memory."""
    spec = read_spec(folder)
    params = load(folder, spec, progress=False)
    text = (*prompt, *tokens)
    padded_T = jnp.asarray(np.pad(text, (0, spec.max_len - len(text))))
    hidden_TM, _ = decoder.forward(spec, params, padded_T, jnp.arange(spec.max_len), memory)
    likeliest_T = np.asarray(decoder.logits(spec, params, hidden_TM)).argmax(-1)
    return likeliest_T[len(prompt) - 1 : len(text) - 1].tolist() == tokens


def assert_rounded(folders, wanted, outputs) -> None:
    for (name, number), each in zip(wanted, outputs, strict=True):
        prompt, tokens = read_golden(name).prompts[number], [output.token for output in each]
        assert continues(name, folders[name], Rounded(), prompt, tokens), (name, number)


@pytest.mark.parametrize("name", FP8)
def test_alone_it_makes_the_tokens_of_rounded_keys_and_values(folders, name):
    with Serving(folders, [name], fp8=[name]) as serving:
        wanted = [(name, number) for number in (0, 2)]
        assert_rounded(folders, wanted, serving.answers(wanted))


@pytest.mark.parametrize("options", [{"max_num_batched_tokens": 16}, {"policy": "fcfs"}, {"tensor_parallel_size": 2}], ids=str)
def test_beside_others_on_one_arena_each_makes_the_tokens_of_its_own_cache(folders, options):
    """Prompts of 17 and 40 tokens come in chunks of 16."""
    wanted = [(name, number) for number in (2, 0, 1, 0) for name in (*FP8, *WHOLE)]
    with Serving(folders, (*FP8, *WHOLE), fp8=FP8, **options) as serving:
        outputs = serving.answers(wanted)
        stats = serving.built.engine.stats()
    kept = [(one, each) for one, each in zip(wanted, outputs, strict=True) if one[0] in WHOLE]
    assert_golden(*map(list, zip(*kept, strict=True)))
    packed = [(one, each) for one, each in zip(wanted, outputs, strict=True) if one[0] in FP8]
    assert_rounded(folders, *map(list, zip(*packed, strict=True)))
    assert stats.free_blocks == stats.total_blocks


def test_preempted_requests_make_the_same_tokens(folders):
    """An arena of 40 head blocks, of which the longest request of the windowed model needs 32."""
    names = ("llama3_scaled", "mistral_windowed")
    wanted = [(name, number) for number in (2, 1, 0) for name in names]
    with Serving(folders, names, fp8=["llama3_scaled"], kv_cache_bytes=80 * 2048) as serving:
        outputs = serving.answers(wanted)
        assert sum(model.preemptions for model in serving.built.engine.stats().models) > 0
    assert_golden(wanted[1::2], outputs[1::2])
    assert_rounded(folders, wanted[::2], outputs[::2])


def test_a_prompt_that_is_cached_makes_the_same_tokens_again(folders):
    name = FP8[0]
    with Serving(folders, [name], fp8=[name]) as serving:
        first, again = (serving.answers([(name, 2)]) for _ in range(2))
        (stats,) = serving.built.engine.stats().models
        assert stats.prefix_hits > 0
    assert [output.token for output in first[0]] == [output.token for output in again[0]]
    assert_rounded(folders, [(name, 2)], again)


def test_a_block_holds_twice_the_tokens_of_bfloat16_and_the_start_says_so(folders):
    name = FP8[0]
    for dtype, times in (("bfloat16", 2), ("float32", 4)):
        with Serving(folders, [name], kv_dtype=dtype) as whole, Serving(folders, [name], fp8=[name], kv_dtype=dtype) as packed:
            (before,), (after,) = (serving.built.engine.stats().models for serving in (whole, packed))
            assert after.tokens_per_block == times * before.tokens_per_block
            line = packed.built.report[0]
            assert "float32, FP8 cache, up to" in line and f"a head block holds {after.tokens_per_block} tokens" in line


@pytest.fixture(scope="module")
def scaled(tmp_path_factory):
    """A model with scales of its cache, of which each layer has others, and a folder of the same without."""
    name = FP8[0]
    folder = make_model(name, tmp_path_factory.mktemp("scaled") / name, read_golden(name).seed)
    scales_L = tuple((0.003 * (layer + 1), 0.0007 / (layer + 1)) for layer in range(read_spec(folder).layers))
    tensors = {
        f"model.layers.{layer}.self_attn.{kind}_scale": np.float32([scale])
        for layer, both in enumerate(scales_L)
        for kind, scale in zip("kv", both, strict=True)
    }
    save_file(tensors | load_file(folder / "model.safetensors"), folder / "model.safetensors", metadata={"format": "pt"})
    return name, folder, scales_L


@pytest.mark.parametrize("tp", [1, 2])
def test_the_scales_of_a_checkpoint_divide_what_is_cached(scaled, folders, tp):
    """So small that without them, or with those of another layer, other numbers would be rounded, and beyond the largest."""
    name, folder, scales_L = scaled
    with Serving({name: folder}, [name], fp8=[name], tensor_parallel_size=tp) as serving:
        outputs = serving.answers([(name, 2)])
    prompt, tokens = read_golden(name).prompts[2], [output.token for output in outputs[0]]
    assert continues(name, folders[name], Rounded(scales_L), prompt, tokens)
    assert not continues(name, folders[name], Rounded(), prompt, tokens)
    assert not continues(name, folders[name], Rounded(scales_L[::-1]), prompt, tokens)


def test_scales_of_a_cache_that_is_whole_are_left_out(scaled):
    name, folder, _ = scaled
    with Serving({name: folder}, [name]) as serving:
        wanted = [(name, 2)]
        assert_golden(wanted, serving.answers(wanted))


def test_scales_that_some_layer_lacks_are_an_error(scaled, tmp_path):
    name, folder, _ = scaled
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.self_attn.v_scale"]
    shutil.copyfile(folder / "config.json", tmp_path / "config.json")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"model\.layers\.1\.self_attn\.v_scale"):
        Serving({name: tmp_path}, [name], fp8=[name])


def changed(folder, to, **tensors):
    """A folder with other tensors of the first layer's attention."""
    shutil.copyfile(folder / "config.json", to / "config.json")
    kept = load_file(folder / "model.safetensors") | {f"model.layers.0.self_attn.{name}": tensor for name, tensor in tensors.items()}
    save_file(kept, to / "model.safetensors", metadata={"format": "pt"})
    return to


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf])
def test_a_scale_that_nothing_is_divided_by_is_an_error(scaled, tmp_path, scale):
    name, folder, _ = scaled
    with pytest.raises(CheckpointError, match=rf"model\.layers\.0\.self_attn\.v_scale must be over 0 and finite, got {float(scale)}"):
        Serving({name: changed(folder, tmp_path, v_scale=np.float32([scale]))}, [name], fp8=[name])


def test_a_scale_is_a_number_alone_or_a_vector_of_one(scaled, tmp_path):
    _, folder, scales_L = scaled
    alone = changed(folder, tmp_path, k_scale=np.array(scales_L[0][0], np.float32))
    of = [load(one, read_spec(one, cache_scales=True), progress=False)["layers"]["k_cache_scale"] for one in (folder, alone)]
    assert np.array_equal(*of)


def test_a_cache_that_does_not_round_would_be_noticed(folders):
    with Serving(folders, [FP8[0]]) as serving:
        wanted = [(FP8[0], 2)]
        outputs = serving.answers(wanted)
    with pytest.raises(AssertionError):
        assert_rounded(folders, wanted, outputs)
