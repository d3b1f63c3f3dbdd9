"""The roofline against measured steps, and the laws of its terms."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.cost.chip import A100, CHIPS, H200, MeshSpec
from muxjax.cost.roofline import (
    decode,
    decode_work,
    experts_reached,
    kv_bytes_per_token,
    mean_context,
    mixed,
    mixed_work,
    prefill,
    prefill_work,
    weight_bytes,
)
from muxjax.errors import ConfigError
from muxjax.model_spec import ModelSpec
from muxjax.specs.published import BY_NAME

WORST = 0.30
"""Largest relative error against the measurements below (the largest decode batches, whose attention the A100's engine did slowly)."""


def llama(layers: int, width: int, heads: int, ffn: int, *, kv_heads: int | None = None, vocab: int = 32000) -> ModelSpec:
    return ModelSpec(
        vocab=vocab,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads or heads,
        head_dim=128,
        ffn=ffn,
        max_len=2048,
        windows=(None,) * layers,
    )


SPEC_7B, SPEC_13B = llama(32, 4096, 32, 11008), llama(40, 5120, 40, 13824)
SPEC_30B, SPEC_65B = llama(60, 6656, 52, 17920), llama(80, 8192, 64, 22016)
SPEC_8B = llama(32, 4096, 32, 14336, kv_heads=8, vocab=128256)

# Of MuxServe's released latency profile (A100-80GB, 256 tokens a sequence): model, tp, batch, prefill ms, decode ms.
A100_STEPS = [
    (SPEC_7B, 1, 1, 24, 11.8),
    (SPEC_7B, 1, 8, 152, 12.5),
    (SPEC_7B, 1, 32, 607, 15.7),
    (SPEC_7B, 1, 128, 2426, 30.3),
    (SPEC_13B, 1, 8, 265, 21.6),
    (SPEC_13B, 1, 128, 4471, 51.7),
    (SPEC_30B, 4, 8, 210, 23.9),
    (SPEC_30B, 4, 128, 4178, 40.5),
    (SPEC_65B, 4, 8, 392, 34.8),
    (SPEC_65B, 4, 32, 1784, 41.3),
]


@pytest.mark.parametrize("spec, tp, batch, prefill_ms, decode_ms", A100_STEPS)
def test_steps_of_an_a100_are_predicted(spec, tp, batch, prefill_ms, decode_ms):
    mesh = MeshSpec(chip=A100, tp=tp)

    assert prefill(spec, mesh, 256 * batch, 128.5).total_s == pytest.approx(prefill_ms * 1e-3, rel=WORST)
    assert decode(spec, mesh, batch, 256 * batch).total_s == pytest.approx(decode_ms * 1e-3, rel=WORST)


# Batch, context and ms of measured decode steps; context 0 is a step without attention. A first kernel's 128 x 512 is left out: it read
# the cache at half of the memory's speed.
H200_STEPS = [(1, 0, 4.03), (32, 0, 4.29), (128, 0, 5.09), (1, 1024, 4.52), (32, 1024, 6.70)]


@pytest.mark.parametrize("batch, context, ms", H200_STEPS)
def test_decode_steps_of_an_h200_are_predicted(batch, context, ms):
    assert decode(SPEC_8B, MeshSpec(chip=H200), batch, batch * context).total_s == pytest.approx(ms * 1e-3, rel=WORST)


def test_a_prefill_of_an_h200_is_predicted():
    """2,048 tokens without attention: 41.3 to 47.0 ms by how the weights are laid out."""
    assert prefill(SPEC_8B, MeshSpec(chip=H200), 2048, 0).total_s == pytest.approx(44e-3, rel=WORST)


def test_the_tolerance_notices_a_shape_without_grouped_queries():
    mesh = MeshSpec(chip=H200)
    ungrouped = replace(SPEC_8B, kv_heads=32)

    assert decode(ungrouped, mesh, 128, 128 * 512).total_s > (1 + WORST) * decode(SPEC_8B, mesh, 128, 128 * 512).total_s


def test_kv_and_weights_are_shared_out_over_the_mesh():
    assert kv_bytes_per_token(SPEC_8B, MeshSpec(chip=H200)) == 2 * 32 * 8 * 128 * 2
    assert kv_bytes_per_token(SPEC_8B, MeshSpec(chip=H200, tp=4)) * 4 == kv_bytes_per_token(SPEC_8B, MeshSpec(chip=H200))
    assert weight_bytes(SPEC_8B, MeshSpec(chip=H200, tp=2)) == SPEC_8B.params


def test_a_mesh_that_cannot_split_the_kv_heads_is_refused():
    with pytest.raises(ConfigError, match="tensor_parallel_size must be a divisor of num_key_value_heads=8, got 3"):
        decode(SPEC_8B, MeshSpec(chip=H200, tp=3), 1, 100)


def test_all_reduces_cost_only_where_there_is_a_second_device():
    alone, pair = (decode(SPEC_8B, MeshSpec(chip=H200, tp=tp), 8, 800) for tp in (1, 2))

    assert pair.memory_s == pytest.approx(alone.memory_s / 2)
    assert pair.overhead_s > alone.overhead_s


def test_mean_context_of_a_whole_prompt_and_of_a_late_chunk():
    assert mean_context(np.array([0]), np.array([3])) == 2.0
    assert mean_context(np.array([10]), np.array([1])) == 11.0
    assert mean_context(np.array([0, 10]), np.array([3, 1])) == (1 + 2 + 3 + 11) / 4


def test_the_floor_of_a_decode_step_is_the_reading_of_weights_and_context():
    """LLaMA-3.1-8B at 1 x 1,024: 15.01 GB without the embedding, and 134 MB of KV, at 4.3 TB/s."""
    work = decode_work(SPEC_8B, MeshSpec(chip=H200), 1, 1024)

    assert work.read_bytes == (SPEC_8B.params - 128256 * 4096) * 2 + 1024 * 131072
    assert work.floor_s(flops_per_s=790e12, bytes_per_s=4.3e12) == pytest.approx(3.52e-3, rel=0.005)


def test_a_mixed_step_reads_the_weights_once_and_does_the_rest_of_both():
    mesh, (chunk, batch) = MeshSpec(chip=H200, tp=2), ((512, 300.0), (64, 64 * 1000))
    both, prefills, decodes = (
        mixed_work(SPEC_8B, mesh, *chunk, *batch),
        prefill_work(SPEC_8B, mesh, *chunk),
        decode_work(SPEC_8B, mesh, *batch),
    )

    weights = (SPEC_8B.params - 128256 * 4096) * 2 // 2
    assert both.flops == pytest.approx(prefills.flops + decodes.flops, rel=1e-12)
    assert both.read_bytes == prefills.read_bytes + decodes.read_bytes - weights


@given(
    tokens=st.integers(1, 4096),
    context=st.floats(1, 8192),
    batch=st.integers(1, 256),
    each=st.integers(1, 4096),
    tp=st.sampled_from([1, 4]),
)
def test_a_mixed_step_costs_less_than_its_halves_apart_and_more_than_either(tokens, context, batch, each, tp):
    mesh = MeshSpec(chip=A100, tp=tp)
    halves = prefill(SPEC_13B, mesh, tokens, context).total_s, decode(SPEC_13B, mesh, batch, batch * each).total_s

    assert max(halves) < mixed(SPEC_13B, mesh, tokens, context, batch, batch * each).total_s < sum(halves)


def test_without_decodes_a_mixed_step_is_a_prefill():
    mesh = MeshSpec(chip=H200)

    assert mixed(SPEC_8B, mesh, 100, 50.5, 0, 0) == prefill(SPEC_8B, mesh, 100, 50.5)


def test_the_floor_of_a_long_prefill_is_its_arithmetic():
    work = prefill_work(SPEC_8B, MeshSpec(chip=H200), 2048, mean_context(np.array([0]), np.array([2048])))

    assert work.floor_s(flops_per_s=790e12, bytes_per_s=4.3e12) == work.flops / 790e12
    assert work.flops == pytest.approx(2 * 2048 * (SPEC_8B.params - 2 * 128256 * 4096), rel=0.05)


@pytest.mark.parametrize("older, newer", list(itertools.pairwise(CHIPS.values())))
def test_no_step_takes_longer_on_a_newer_chip(older, newer):
    for spec, tp in ((SPEC_8B, 1), (SPEC_65B, 4)):
        slow, fast = (MeshSpec(chip=chip, tp=tp) for chip in (older, newer))
        assert decode(spec, fast, 64, 64 * 1024).total_s < decode(spec, slow, 64, 64 * 1024).total_s
        assert prefill(spec, fast, 2048, 1024).total_s <= prefill(spec, slow, 2048, 1024).total_s


MIXTURE = BY_NAME["qwen3-30b-a3b"]


def test_a_step_reads_the_experts_that_its_tokens_reach():
    """8 of 128 for one token, nearly all for many; drawn at random, the mean is as many."""
    assert experts_reached(MIXTURE, 1) == pytest.approx(8)
    assert experts_reached(MIXTURE, 2048) == pytest.approx(128)
    rng = np.random.default_rng(0)
    drawn = [len({expert for _ in range(16) for expert in rng.choice(128, 8, replace=False)}) for _ in range(400)]
    assert experts_reached(MIXTURE, 16) == pytest.approx(np.mean(drawn), rel=0.01)
    assert experts_reached(SPEC_8B, 16) == 0


def test_a_token_of_a_mixture_costs_what_computes_it_and_many_read_all():
    mesh, embedding = MeshSpec(chip=H200), MIXTURE.vocab * MIXTURE.width
    one, many = decode_work(MIXTURE, mesh, 1, 1), prefill_work(MIXTURE, mesh, 8192, 1.0)

    assert one.weight_bytes == pytest.approx(2 * (MIXTURE.active_params - embedding), rel=1e-6)
    assert many.weight_bytes == pytest.approx(2 * (MIXTURE.params - embedding), rel=1e-6)
    assert one.product_flops == pytest.approx(2 * (MIXTURE.active_params - embedding))
    assert many.product_flops == pytest.approx(8192 * 2 * (MIXTURE.active_params - 2 * embedding), rel=0.001)
    assert weight_bytes(MIXTURE, mesh) == 2 * MIXTURE.params


def test_a_larger_batch_of_a_mixture_reads_more_weights_and_less_a_token():
    works = [decode_work(MIXTURE, MeshSpec(chip=H200), batch, batch) for batch in (1, 4, 16, 64, 256)]
    for (few, fewer), (more, many) in itertools.pairwise(zip((1, 4, 16, 64, 256), works, strict=True)):
        assert fewer.weight_bytes < many.weight_bytes and many.weight_bytes / more < fewer.weight_bytes / few
