"""The attention kernels over an FP8 cache: bit for bit what they make of the same numbers in bf16, and compiled for the H200."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.pallas import fp8
from muxjax.pallas.reference import Places
from tests.pallas.hopper import Compiled, compile_for_h200, has_mosaic, interpret, needs_compiler, needs_mosaic
from tests.pallas.places import placed

if has_mosaic:
    from muxjax.pallas import decode_plan, prefill
    from muxjax.pallas.decode import decode
    from muxjax.pallas.ring import widened

LENGTHS = (83, 200, 0)
BLOCKS = 70_001


def make(*, kv_heads: int, head_dim: int) -> tuple[jax.Array, jax.Array, Places]:
    """An FP8 pool in words, the same numbers in bf16, and three rows' places. What no row holds yet is NaN in one and 0 in the other."""
    rng, size = np.random.default_rng(0), 8192 // head_dim
    columns = -(-max(LENGTHS) // size)
    table_BKC = rng.permutation(3 * kv_heads * columns).reshape(3, kv_heads, columns)
    pool_N2PD = np.full((table_BKC.size, 2, size, head_dim), np.nan)
    for row, length in enumerate(LENGTHS):
        for column in range(columns):
            held = slice(0, max(0, min(size, length - column * size)))
            numbers = pool_N2PD[table_BKC[row, :, column]]
            numbers[:, :, held] = rng.standard_normal(numbers[:, :, held].shape)
            pool_N2PD[table_BKC[row, :, column]] = numbers
    bytes_N2PD = np.array(jnp.asarray(pool_N2PD).astype(fp8.FP8)).view(np.uint8)
    bytes_N2PD[np.isnan(pool_N2PD)] |= rng.choice(np.uint8([0, 0x80]), np.isnan(pool_N2PD).sum())  # NaN of both signs
    words = jax.lax.bitcast_convert_type(jnp.asarray(bytes_N2PD).reshape(*pool_N2PD.shape[:-1], -1, 2), jnp.bfloat16)
    return words, jnp.nan_to_num(fp8.unpack(words).astype(jnp.bfloat16)), placed(jnp.asarray(table_BKC, jnp.int32))


def queries(rows: int, heads: int, head_dim: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).standard_normal((rows, heads, head_dim)), jnp.bfloat16)


def assert_same(run, q, packed, wide, *rest) -> None:
    """And not of zeros, nor of another pool."""
    out, expected, other = (np.asarray(run(q, pool, *rest), np.float32) for pool in (packed, wide, wide[:, ::-1]))
    np.testing.assert_array_equal(out, expected)
    assert np.isfinite(out).all() and not np.array_equal(out, other)


@needs_mosaic
@pytest.mark.parametrize(("head_dim", "group", "options"), [(64, 4, {}), (128, 4, {"window": 70, "soft_cap": 5.0}), (256, 8, {})])
def test_decode_over_fp8_is_decode_over_the_same_numbers(head_dim, group, options):
    """In three pieces, which cut segments, and with more tiles than there are places for."""
    packed, wide, places = make(kv_heads=2, head_dim=head_dim)
    tuning = replace(decode_plan.FP8_TUNING[head_dim], tile_tokens=128, pieces=3, sum_in_place=False)
    run = partial(interpret, partial(decode, tuning=tuning, **options))
    assert_same(run, queries(3, 2 * group, head_dim), packed, wide, places, jnp.asarray(LENGTHS, jnp.int32))


@needs_mosaic
@pytest.mark.parametrize(("head_dim", "group", "options"), [(64, 2, {"window": 20}), (128, 4, {"soft_cap": 5.0}), (256, 8, {})])
def test_prefill_over_fp8_is_prefill_over_the_same_numbers(head_dim, group, options):
    packed, wide, places = make(kv_heads=1, head_dim=head_dim)
    tuning = replace(prefill.FP8_TUNING[head_dim], weights_in_registers=False, sum_in_place=False)
    run = partial(interpret, partial(prefill.prefill, tuning=tuning, **options))
    rows = (jnp.asarray(numbers, jnp.int32) for numbers in ((0, 24, 48), (19, 17, 0), LENGTHS))
    assert_same(run, queries(56, group, head_dim), packed, wide, places, *rows)


@needs_mosaic
def test_every_byte_becomes_its_number_and_no_byte_nan():
    numbers = np.arange(256, dtype=np.uint8).view(fp8.FP8)
    wanted = np.nan_to_num(numbers.astype(np.float32), nan=448) * np.where(np.arange(256) == 0xFF, -1, 1)
    np.testing.assert_array_equal(np.asarray(widened(jnp.asarray(numbers), jnp.bfloat16), np.float32), wanted)


@needs_compiler
@pytest.mark.parametrize(("head_dim", "spilled"), [(64, 0), (128, 0), (256, 1024)])
@pytest.mark.parametrize("kernel", ["decode", "prefill"])
def test_compiled_for_the_h200_they_copy_no_arena_and_hardly_spill(kernel, head_dim, spilled):
    """They take the arena as it lies, as FP8. Of heads of 256, decode spills as much with bf16."""
    compiled = compiled_kernel(kernel, head_dim)
    assert compiled.spilled_bytes <= spilled
    assert "serialized" not in compiled.ptxas
    assert not compiled.copies_of(BLOCKS, 2, 8192 // head_dim, head_dim)
    assert compiled.temporaries_bytes < 16 * 2**20
    assert f"f8e4m3fn[{BLOCKS},2,{8192 // head_dim},{head_dim}]{{3,2,1,0}} bitcast(" in compiled.hlo


def compiled_kernel(kernel: str, head_dim: int) -> Compiled:
    rows, kv_heads, size = 8, 2, 8192 // head_dim

    def ints(*dims: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(dims, jnp.int32)

    tokens, lengths = (rows, [ints(rows)]) if kernel == "decode" else (2048, [ints(rows)] * 3)
    q = jax.ShapeDtypeStruct((tokens, 4 * kv_heads, head_dim), jnp.bfloat16)
    pool = jax.ShapeDtypeStruct((BLOCKS, 2, size, head_dim // 2), jnp.bfloat16)
    places = Places(ints(4, 2 * rows, kv_heads, 16), ints(), ints(rows))
    return compile_for_h200(decode if kernel == "decode" else prefill.prefill, q, pool, places, *lengths)
