"""The prefill kernel against its twin: interpreted at small shapes, and compiled for the H200 at real ones."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.pallas import reference
from muxjax.pallas.reference import Places
from tests.pallas import hopper
from tests.pallas.places import placed

if hopper.has_mosaic:
    from muxjax.pallas import prefill as kernels

pytestmark = hopper.needs_mosaic

LIMIT = 4e-3
"""Relative error of a row. Measured worst: 2.9e-3, which is bf16's rounding of weights and result."""

OFFSETS, COUNTS, LENGTHS = (0, 24, 24, 32), (19, 0, 1, 9), (83, 0, 70, 9)
"""Chunk of a long sequence, padding row, one token on a cached sequence, new sequence; each begins at a multiple of eight."""

TOKENS = 56
USED = np.concatenate([offset + np.arange(count) for offset, count in zip(OFFSETS, COUNTS, strict=True)])


class Case:
    """A pool of random blocks, of which each row owns those that its table names."""

    def __init__(self, *, group: int, head_dim: int, kv_heads: int = 1):
        rng = np.random.default_rng(0)
        self.block = 4096 // head_dim
        columns = -(-max(LENGTHS) // self.block)
        blocks = len(OFFSETS) * kv_heads * columns + 3
        table = rng.permutation(blocks)[: len(OFFSETS) * kv_heads * columns].reshape(len(OFFSETS), kv_heads, columns)
        self.q = jnp.asarray(rng.standard_normal((TOKENS, group * kv_heads, head_dim)), jnp.bfloat16)
        self.pool = jnp.asarray(rng.standard_normal((blocks, 2, self.block, head_dim)), jnp.bfloat16)
        self.table = jnp.asarray(table, jnp.int32)

    def args(self, *, pool=None, table=None, offsets=OFFSETS, counts=COUNTS, lengths=LENGTHS):
        ints = (jnp.asarray(x, jnp.int32) for x in (offsets, counts, lengths))
        return self.q, self.pool if pool is None else pool, placed(self.table if table is None else table), *ints

    def error(self, *, run=hopper.interpret, told=None, tuning=None, **options) -> float:
        """Of the kernel, which is given what is `told` in place of the truth."""
        told = told or {}
        given = {**options, **{name: told[name] for name in ("window", "scale", "soft_cap") if name in told}}
        args = self.args(**{name: value for name, value in told.items() if name not in given})
        out = run(kernel(tuning or kernels.PrefillTuning(tile_tokens=64, stages=2, sum_in_place=False), **given), *args)
        q, pool, *rest = self.args()
        expected = twin(**options)(q.astype(jnp.float32), pool.astype(jnp.float32), *rest)
        return worst(np.asarray(out, np.float64), np.asarray(expected, np.float64))


@cache
def kernel(tuning, **options):
    """One object for each choice, so that it is traced once."""
    return partial(kernels.prefill, tuning=tuning, **options)


@cache
def twin(**options):
    return jax.default_matmul_precision("highest")(jax.jit(partial(reference.prefill, **options)))


def on_gpu(function, *args):
    return jax.jit(function)(*args)


def worst(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest relative error of a query; anything but zero for padding is infinitely wrong, as is NaN."""
    if np.delete(actual, USED, axis=0).any() or np.isnan(actual).any():
        return np.inf
    return float((np.linalg.norm(actual - expected, axis=-1)[USED] / np.linalg.norm(expected, axis=-1)[USED]).max())


@pytest.mark.parametrize(
    ("group", "head_dim", "options"),
    [
        (1, 64, {}),
        (2, 64, {"window": 20}),
        (4, 128, {}),
        (5, 64, {"soft_cap": 2.0}),
        (6, 64, {"scale": 0.3}),
        (8, 256, {"window": 70, "soft_cap": 5.0}),
        (16, 64, {}),
    ],
)
def test_the_kernel_computes_what_its_twin_says_and_nothing_races(group, head_dim, options):
    assert Case(group=group, head_dim=head_dim).error(**options) < LIMIT


def test_each_kv_head_reads_its_own_blocks_and_more_stages_than_tiles_are_no_harm():
    tuning = kernels.PrefillTuning(tile_tokens=128, stages=3, sum_in_place=False) if hopper.has_mosaic else None
    assert Case(group=2, head_dim=128, kv_heads=2).error(tuning=tuning) < LIMIT


@pytest.mark.parametrize(
    "near_miss",
    [
        lambda case: {"pool": case.pool[:, ::-1]},  # K read for V
        lambda case: {"table": jnp.roll(case.table, 1, axis=2)},  # one block off
        lambda case: {"lengths": (82, 0, 70, 9)},  # the mask one position off, and the last token unseen
        lambda case: {"lengths": (83, 0, 71, 9)},  # the tail of the last block seen
        lambda case: {"window": 21},
        lambda case: {"soft_cap": 2.1},
        lambda case: {"scale": 0.13},  # for 64 ** -0.5
        lambda case: {"counts": (19, 0, 1, 10), "lengths": (83, 0, 70, 10)},  # a token of padding taken for the row's
    ],
)
def test_near_misses_are_noticed(near_miss):
    case = Case(group=4, head_dim=64)
    assert case.error(window=20, soft_cap=2.0, told=near_miss(case)) > 4 * LIMIT


def test_a_row_that_writes_into_its_neighbours_tokens_is_a_race():
    with pytest.raises(hopper.RaceError):
        Case(group=4, head_dim=64).error(told={"offsets": (8, 24, 24, 32)})


@pytest.mark.gpu
@pytest.mark.parametrize("in_registers", [False, True])
@pytest.mark.parametrize("options", [{}, {"window": 20, "soft_cap": 2.0}])
@pytest.mark.parametrize(("group", "head_dim"), [(1, 64), (8, 64), (4, 128), (5, 128), (7, 128), (8, 256), (16, 256)])
def test_a_gpu_computes_what_the_twin_says(group, head_dim, options, in_registers):
    tuning = replace(kernels.TUNING[head_dim], weights_in_registers=in_registers)
    assert Case(group=group, head_dim=head_dim, kv_heads=2).error(run=on_gpu, tuning=tuning, **options) < LIMIT


@pytest.mark.parametrize("group", range(1, 17))
def test_a_tile_has_few_idle_rows_and_whole_groups_of_tokens(group):
    heads = kernels.heads_of_tile(group)
    tokens = kernels.tokens_of_tile(heads)
    assert group % heads == 0
    assert tokens % 8 == 0
    assert 112 <= heads * tokens <= 128


def test_the_plan_covers_every_token_once_and_takes_long_contexts_first():
    rows = (jnp.asarray(x) for x in (range(4), OFFSETS, COUNTS, LENGTHS))
    work = np.asarray(kernels.plan(*rows, tokens=TOKENS, tile=8))
    work = work[work[:, 2] > 0]
    covered = np.concatenate([np.arange(token, token + count) for _, token, count, _ in work])
    assert sorted(covered) == sorted([*USED, *range(48, TOKENS)])
    assert (np.diff(work[:, 3]) <= 0).all()
    rows = {(row, token - OFFSETS[row] + LENGTHS[row] - COUNTS[row] - position) for row, token, _, position in work if position >= 0}
    assert rows == {(0, 0), (2, 0), (3, 0)}


@hopper.needs_compiler
@pytest.mark.parametrize(
    ("group", "head_dim", "options"),
    [(8, 64, {}), (4, 128, {}), (7, 128, {}), (4, 128, {"window": 4096}), (8, 256, {"soft_cap": 50.0})],
)
def test_compiled_for_the_h200_it_spills_no_register_and_copies_no_arena(group, head_dim, options):
    compiled = compiled_kernel(group, head_dim, kernels.TUNING[head_dim], **options)
    assert compiled.spilled_bytes == 0, compiled.ptxas
    assert "serialized" not in compiled.ptxas
    assert compiled.copies_of(5000, 2, 4096 // head_dim, head_dim) == []
    assert compiled.temporaries_bytes < 1e5


@hopper.needs_compiler
def test_registers_that_spill_are_noticed():
    wide = replace(kernels.TUNING[256], tile_tokens=128, stages=1, weights_in_registers=True, sum_in_place=False)
    assert compiled_kernel(8, 256, wide).spilled_bytes > 0


def compiled_kernel(group: int, head_dim: int, tuning, **options) -> hopper.Compiled:
    def shape(*dims: int, dtype=jnp.int32):
        return jax.ShapeDtypeStruct(dims, dtype)

    block, rows, kv_heads = 4096 // head_dim, 8, 2
    q = shape(2048, group * kv_heads, head_dim, dtype=jnp.bfloat16)
    pool = shape(5000, 2, block, head_dim, dtype=jnp.bfloat16)
    places = Places(shape(4, 2 * rows, kv_heads, 8192 // block), shape(), shape(rows))
    return hopper.compile_for_h200(partial(kernels.prefill, tuning=tuning, **options), q, pool, places, *[shape(rows)] * 3)
