"""The decode kernel: interpreted with race detection against its meaning, and compiled for the H200."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.pallas import reference
from muxjax.pallas.reference import Places
from tests.pallas.hopper import compile_for_h200, interpret, needs_compiler, needs_mosaic
from tests.pallas.places import placed

LIMIT = 5e-3
"""Measured worst row: 3.3e-3, bf16."""


def make(lengths: list[int], *, kv_heads: int, group: int, head_dim: int, seed: int = 0):
    """A pool of finite noise, in which every row's blocks lie scattered."""
    rng, size = np.random.default_rng(seed), 4096 // head_dim
    columns = -(-max(lengths) // size)
    blocks = len(lengths) * kv_heads * columns + 3
    pool = jnp.asarray(rng.standard_normal((blocks, 2, size, head_dim)), jnp.bfloat16)
    table = jnp.asarray(rng.permutation(blocks)[: len(lengths) * kv_heads * columns].reshape(len(lengths), kv_heads, columns), jnp.int32)
    q = jnp.asarray(rng.standard_normal((len(lengths), kv_heads * group, head_dim)), jnp.bfloat16)
    return q, pool, table, jnp.asarray(lengths, jnp.int32)


def kernel(*arrays, pieces: int, **options):
    from muxjax.pallas import decode, decode_plan

    tile = decode_plan.TUNING[arrays[0].shape[-1]].tile_tokens
    tuning = decode_plan.DecodeTuning(tile_tokens=tile, stages=2, queries=1, pieces=pieces, sum_in_place=False)
    return interpret(lambda *args: decode.decode(*args, tuning=tuning, **options), *given(*arrays))


def given(q, pool, table, length):
    """Arguments of `decode`: the rows in slots of their own, in a layer of its own."""
    return q, pool, placed(table), length


def error(actual, arrays, **options) -> float:
    """Largest relative error of a row with context; rows without must be zero."""
    q, pool, *rest = given(*arrays)
    expected = np.asarray(reference.decode(q.astype(jnp.float32), pool.astype(jnp.float32), *rest, **options))
    live = np.asarray(arrays[-1]) > 0
    actual = np.asarray(actual, np.float32)
    assert not actual[~live].any()
    errors = np.linalg.norm((actual - expected)[live], axis=-1) / np.linalg.norm(expected[live], axis=-1)
    return float(np.nan_to_num(errors, nan=np.inf).max())


CASES = {
    "segments cut by pieces": ({"lengths": [170, 600], "kv_heads": 1, "group": 4, "head_dim": 128}, {"pieces": 9}),
    "heads that share a copy of queries": ({"lengths": [170, 40], "kv_heads": 4, "group": 4, "head_dim": 128}, {"pieces": 9}),
    "more pieces than tiles": ({"lengths": [70], "kv_heads": 2, "group": 5, "head_dim": 128}, {"pieces": 9}),
    "window, soft cap and padding rows": (
        {"lengths": [300, 5, 9, 0], "kv_heads": 2, "group": 1, "head_dim": 64},
        {"pieces": 4, "window": 70, "soft_cap": 5.0},
    ),
    "a scale of its own": ({"lengths": [130, 70], "kv_heads": 2, "group": 4, "head_dim": 64}, {"pieces": 3, "scale": 0.3}),
    "wide heads": ({"lengths": [130], "kv_heads": 1, "group": 16, "head_dim": 256}, {"pieces": 3}),
}


@needs_mosaic
@pytest.mark.parametrize("case", CASES)
def test_the_kernel_means_what_the_reference_says(case):
    shape, options = CASES[case]
    arrays = make(**shape)
    assert error(kernel(*arrays, **options), arrays, **{k: v for k, v in options.items() if k != "pieces"}) < LIMIT


@needs_mosaic
@pytest.mark.parametrize(
    "near_miss",
    [
        lambda q, pool, table, length: (q, pool[:, ::-1], table, length),  # V read for K
        lambda q, pool, table, length: (q, pool, jnp.roll(table, 1, axis=2), length),  # one block off
        lambda q, pool, table, length: (q, pool, table, length + 1),  # the tail of the last block seen
        lambda q, pool, table, length: (q, pool, table, length - 1),  # the last token unseen
    ],
)
def test_near_misses_are_noticed(near_miss):
    arrays = make([90], kv_heads=1, group=4, head_dim=128)
    assert error(kernel(*near_miss(*arrays), pieces=2), arrays) > 3 * LIMIT


@needs_compiler
@pytest.mark.parametrize(("head_dim", "group", "spilled"), [(64, 4, 0), (128, 4, 0), (128, 8, 0), (256, 4, 1024)])
def test_compiled_for_the_h200_it_copies_no_arena_and_hardly_spills(head_dim, group, spilled):
    from muxjax.pallas import decode

    rows, kv_heads, size, blocks = 8, 2, 4096 // head_dim, 70_001
    compiled = compile_for_h200(
        decode.decode,
        jax.ShapeDtypeStruct((rows, kv_heads * group, head_dim), jnp.bfloat16),
        jax.ShapeDtypeStruct((blocks, 2, size, head_dim), jnp.bfloat16),
        Places(*(jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((4, 2 * rows, kv_heads, 16), (), (rows,)))),
        jax.ShapeDtypeStruct((rows,), jnp.int32),
    )
    assert compiled.spilled_bytes <= spilled
    assert not compiled.copies_of(blocks, 2, size, head_dim)
    assert compiled.temporaries_bytes < 16 * 2**20
