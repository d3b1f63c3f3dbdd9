"""The KV write against its twin, and what XLA makes of it for the H200."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.pallas import reference
from muxjax.pallas.reference import Places
from muxjax.pallas.write import write
from tests.pallas import hopper
from tests.pallas.places import placed_tokens

N, P, D, K, B, T = 40, 4, 8, 2, 3, 24


def case(seed: int) -> tuple[jax.Array, ...]:
    """Rows of random counts at random starts, packed, a third of T padding."""
    rng = np.random.default_rng(seed)
    count = rng.multinomial(T - T // 3, [1 / B] * B)
    row = np.concatenate([np.repeat(np.arange(B), count), B + rng.integers(0, 3, T // 3)])
    position = np.concatenate([*(rng.integers(0, 24 - n + 1) + np.arange(n) for n in count), np.zeros(T // 3)])
    table = rng.permutation(N)[: B * K * 6].reshape(B, K, 6)
    pool, k, v = (rng.standard_normal(shape) for shape in ((N, 2, P, D), (T, K, D), (T, K, D)))
    return *(jnp.asarray(x, jnp.bfloat16) for x in (pool, k, v)), *(jnp.asarray(x, jnp.int32) for x in (table, row, position))


def given(pool, k, v, table, row, position):
    """Arguments of `write`."""
    return pool, k, v, placed_tokens(table, row), position


@pytest.mark.parametrize("seed", range(5))
def test_write_is_its_twin_bit_for_bit(seed):
    args = given(*case(seed))
    np.testing.assert_array_equal(write(*args), reference.write(*args))


@pytest.mark.parametrize(
    "near_miss",
    [
        lambda pool, k, v, table, row, position: (pool, v, k, table, row, position),
        lambda pool, k, v, table, row, position: (pool, k, v, jnp.roll(table, 1, axis=2), row, position),
        lambda pool, k, v, table, row, position: (pool, k, v, table[:, ::-1], row, position),
        lambda pool, k, v, table, row, position: (pool, k, v, table, row, position + 1),
        lambda pool, k, v, table, row, position: (pool, k, v, table, jnp.minimum(row, B - 1), position),
    ],
)
def test_near_misses_are_noticed(near_miss):
    args = case(0)
    assert not np.array_equal(write(*given(*near_miss(*args))), reference.write(*given(*args)))


def int32(*dims: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(dims, jnp.int32)


TABLE = int32(3, 8, 8, 64)


def shapes(tokens: int = 512) -> tuple:
    bf16 = ((5000, 2, 32, 128), (tokens, 8, 128), (tokens, 8, 128))
    return *(jax.ShapeDtypeStruct(x, jnp.bfloat16) for x in bf16), Places(TABLE, int32(), int32(tokens)), int32(tokens)


@hopper.needs_compiler
def test_the_h200_writes_in_place_in_one_launch_without_atomics():
    compiled = hopper.compile_for_h200(write, *shapes(), donate=(0,))
    entry = compiled.hlo[compiled.hlo.index("ENTRY") :]
    assert (entry.count("fusion("), compiled.temporaries_bytes, compiled.copies_of(5000, 2, 32, 128)) == (1, 0, [])
    assert "unique_indices=true" in compiled.hlo
    assert "unique_indices=true" not in hopper.compile_for_h200(reference.write, *shapes(), donate=(0,)).hlo


def layers(attend, pool, k, v, places_T, position, q, slot, *rows):
    """Three layers, each writing and reading its part of the pool."""
    for layer in range(3):
        pool = write(pool, k, v, places_T._replace(layer=jnp.int32(layer)), position)
        q = attend(q, pool, Places(places_T.table_LSKC, jnp.int32(layer), slot), *rows)
    return pool, q


@hopper.needs_compiler
def test_write_and_prefill_of_many_layers_never_copy_the_arena():
    from muxjax.pallas.prefill import prefill

    args = (*shapes(), jax.ShapeDtypeStruct((512, 32, 128), jnp.bfloat16), *[int32(8)] * 4)
    compiled = hopper.compile_for_h200(partial(layers, prefill), *args, donate=(0,))
    assert compiled.copies_of(5000, 2, 32, 128) == []
    assert compiled.temporaries_bytes < 5000 * 2 * 32 * 128
    assert compiled.spilled_bytes == 0
    kept = hopper.compile_for_h200(partial(layers, prefill), *args)
    assert kept.copies_of(5000, 2, 32, 128), "an arena that is not donated must be copied once"
