"""The grouped product against its twin: interpreted at small shapes, and compiled for the H200 at real ones."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.pallas import reference
from tests.pallas import hopper

if hopper.has_mosaic:
    from muxjax.pallas import grouped

LIMIT = 3e-3
"""Relative error of a row. Measured worst: 2.0e-3, which is bf16's rounding of the result."""


class Case:
    """Random operands of the second of two layers; places that no matrix has rows for hold what would show."""

    def __init__(self, counts: tuple[int, ...], depth: int, columns: int):
        rng = np.random.default_rng(0)
        self.count = jnp.asarray(counts, jnp.int32)
        first_X = np.asarray(reference.first_rows(self.count))
        self.rows = np.concatenate([np.arange(first, first + own) for first, own in zip(first_X, counts, strict=True)]).astype(int)
        places = int(sum(-(-own // 8) * 8 for own in counts)) + 16
        x = np.full((places, depth), 1e4, np.float32)
        x[self.rows] = rng.standard_normal((len(self.rows), depth))
        self.x = jnp.asarray(x, jnp.bfloat16)
        self.w = jnp.asarray(rng.standard_normal((2, len(counts), depth, columns)), jnp.bfloat16)

    def error(self, *, run=hopper.interpret, **given) -> float:
        """Of the kernel, which is given some operands in place of the true ones: the worst row's."""
        arguments = {"x": self.x, "w": self.w, "layer": jnp.int32(1), "count": self.count} | given
        out = np.asarray(run(grouped.grouped_product, *arguments.values()), np.float64)[self.rows]
        wide = (array.astype(jnp.float32) for array in (self.x, self.w))
        right = np.asarray(reference.grouped_product(*wide, jnp.int32(1), self.count), np.float64)[self.rows]
        errors = np.linalg.norm(out - right, axis=1) / np.linalg.norm(right, axis=1)
        return np.inf if np.isnan(out).any() else float(errors.max(initial=0))


def on_gpu(function, *args):
    return jax.jit(function)(*args)


COUNTS = (5, 0, 70, 1, 64, 16)
"""Rows of a part of a band, of none, of a band and a little, of a whole one."""


@hopper.needs_mosaic
@pytest.mark.parametrize(
    ("counts", "depth", "columns", "blocks"),
    [
        (COUNTS, 64, 320, 3),  # one step; columns that end in half of a warpgroup's
        ((3, 0, 9), 320, 256, 4),  # more steps than stages, and blocks without a tile
        ((0, 0, 0), 64, 64, 2),  # no rows at all; columns that one warpgroup has none of
        ((130,), 128, 128, 1),  # one matrix, and all tiles in one block
    ],
)
def test_the_kernel_computes_what_its_twin_says_and_nothing_races(monkeypatch, counts, depth, columns, blocks):
    monkeypatch.setattr(grouped, "BLOCKS", blocks)
    assert Case(counts, depth, columns).error() < LIMIT


@hopper.needs_mosaic
@pytest.mark.parametrize(
    "near_miss",
    [
        lambda case: {"layer": jnp.int32(0)},
        lambda case: {"w": jnp.roll(case.w, 1, axis=1)},  # the matrices of others
        lambda case: {"w": jnp.roll(case.w, 128, axis=3)},  # columns of the other warpgroup
        lambda case: {"x": case.x.at[:, -64:].set(0)},  # the last step left out
        lambda case: {"x": case.x.at[72:80].set(0)},  # the last group of rows of a matrix
        lambda case: {"count": case.count.at[2].set(64)},  # the second band of a matrix
    ],
)
def test_near_misses_are_noticed(monkeypatch, near_miss):
    monkeypatch.setattr(grouped, "BLOCKS", 3)
    case = Case((5, 0, 70, 1), 128, 256)
    assert case.error(**near_miss(case)) > 4 * LIMIT


@hopper.needs_mosaic
def test_rows_of_another_matrix_are_never_written_over(monkeypatch):
    """A band's last rows lie where the next matrix's are, which other blocks write: were they stored, that would be a race."""
    monkeypatch.setattr(grouped, "BLOCKS", 4)
    whole = grouped._bands

    def careless(layer, count_X, places):
        return whole(layer, count_X, places).at[:-1, 3].set(8)

    case = Case((5, 9, 3), 64, 64)
    assert case.error() < LIMIT
    monkeypatch.setattr(grouped, "_bands", careless)
    with pytest.raises(hopper.RaceError):
        hopper.interpret(partial(grouped.grouped_product), case.x, case.w, jnp.int32(1), case.count)


@hopper.needs_mosaic
@pytest.mark.parametrize("how", ["float32", "96 summands", "40 columns", "quantised"])
def test_what_it_does_not_take_is_the_references(how):
    case = Case((5, 0, 9), 96 if how == "96 summands" else 64, 40 if how == "40 columns" else 64)
    dtype = jnp.float32 if how == "float32" else jnp.bfloat16
    operands = case.x.astype(dtype), case.w.astype(dtype), jnp.int32(1), case.count
    scales = (jnp.ones((2, 3, 1, 64)),) if how == "quantised" else ()
    assert "pallas" not in str(jax.make_jaxpr(grouped.grouped_product)(*operands, *scales))
    found, right = (function(*operands, *scales) for function in (grouped.grouped_product, reference.grouped_product))
    np.testing.assert_array_equal(found, right)


@pytest.mark.gpu
@pytest.mark.parametrize(("depth", "columns"), [(2048, 1536), (768, 2048), (2880, 5760), (448, 1216)])
@pytest.mark.parametrize("counts", [(1,) * 100 + (0,) * 28, (150, 0, 3, 64, 257, 1), (0,) * 8])
def test_a_gpu_computes_what_the_twin_says(counts, depth, columns):
    assert Case(counts, depth, columns).error(run=on_gpu) < LIMIT


@hopper.needs_compiler
@pytest.mark.parametrize(
    ("places", "matrices", "depth", "columns"), [(1152, 128, 2048, 1536), (17280, 128, 768, 2048), (1152, 32, 2880, 5760)]
)
def test_compiled_for_the_h200_it_spills_no_register_and_needs_no_memory(places, matrices, depth, columns):
    shape = jax.ShapeDtypeStruct
    operands = shape((places, depth), jnp.bfloat16), shape((24, matrices, depth, columns), jnp.bfloat16)
    compiled = hopper.compile_for_h200(grouped.grouped_product, *operands, shape((), jnp.int32), shape((matrices,), jnp.int32))
    assert compiled.spilled_bytes == 0, compiled.ptxas
    assert "serialized" not in compiled.ptxas
    assert "grouped_product" in compiled.ptxas and compiled.temporaries_bytes < 1e5
