"""The product kernel against its twin: interpreted at small shapes, and compiled for the H200 at real ones."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.pallas import reference
from muxjax.pallas.kernels import best_product, shares
from tests.pallas import hopper

if hopper.has_mosaic:
    from muxjax.pallas import product as kernels
    from muxjax.pallas.product_plan import Deal

LIMIT = 3e-3
"""Relative error of a row. Measured worst: 2.0e-3, which is bf16's rounding of the result."""


class Case:
    """Random operands."""

    def __init__(self, tokens: int, depth: int, columns: int):
        rng = np.random.default_rng(0)
        self.x = jnp.asarray(rng.standard_normal((tokens, depth)), jnp.bfloat16)
        self.w = jnp.asarray(rng.standard_normal((depth, columns)), jnp.bfloat16)

    def error(self, *, ctas: int = 2, run=hopper.interpret, x=None, w=None) -> float:
        """Of the kernel, which is given x and w in place of the true ones: the worst row's."""
        out = np.asarray(run(kernel(ctas), self.x if x is None else x, self.w if w is None else w), np.float64)
        right = np.asarray(reference.product(np.asarray(self.x, np.float64), np.asarray(self.w, np.float64)))
        return np.inf if np.isnan(out).any() else float((np.linalg.norm(out - right, axis=1) / np.linalg.norm(right, axis=1)).max())


@cache
def kernel(ctas: int):
    """One object for each choice, so that it is traced once."""
    return partial(kernels.product, ctas=ctas)


def on_gpu(function, *args):
    return jax.jit(function)(*args)


@hopper.needs_mosaic
@pytest.mark.parametrize(
    ("tokens", "depth", "columns", "ctas"),
    [
        (256, 320, 128, 2),  # one whole tile dealt as two halves, more steps than stages
        (8, 64, 192, 3),  # fewer rows than one warpgroup has, and columns that end in half a tile
        (300, 128, 128, 1),  # a whole tile and a last half, no multiple of eight rows
        (520, 128, 320, 3),  # both kinds of tiles for every block
    ],
)
def test_the_kernel_computes_what_its_twin_says_and_nothing_races(tokens, depth, columns, ctas):
    assert Case(tokens, depth, columns).error(ctas=ctas) < LIMIT


@hopper.needs_mosaic
@pytest.mark.parametrize(
    "near_miss",
    [
        lambda case: {"x": case.x.at[:, -64:].set(0)},  # the last step left out
        lambda case: {"x": case.x.at[:, :64].set(case.x[:, 64:128])},  # the first step's stage overwritten by the second
        lambda case: {"x": case.x.at[128:].set(case.x[:136])},  # the upper half twice
        lambda case: {"x": case.x.at[-8:].set(0)},  # the last rows taken for padding
        lambda case: {"w": jnp.roll(case.w, 64, axis=1)},  # columns of the other half
        lambda case: {"w": case.w.at[0, 0].add(8)},  # one weight
    ],
)
def test_near_misses_are_noticed(near_miss):
    case = Case(264, 128, 128)
    assert case.error(**near_miss(case)) > 4 * LIMIT


@hopper.needs_mosaic
def test_a_tile_that_two_blocks_compute_is_a_race(monkeypatch):
    class Careless(Deal):
        def half(self, index):
            return super().half(jnp.maximum(index, 1))

    monkeypatch.setattr(kernels, "Deal", Careless)
    case = Case(264, 64, 128)
    with pytest.raises(hopper.RaceError):
        hopper.interpret(partial(kernels.product, ctas=3), case.x, case.w)


@hopper.needs_mosaic
def test_a_matrix_that_cannot_be_copied_in_tiles_is_multiplied_by_xla():
    case = Case(16, 96, 40)
    assert "pallas" not in str(jax.make_jaxpr(kernel(2))(case.x, case.w)) and case.error(run=on_gpu) < LIMIT


@pytest.mark.gpu
@pytest.mark.parametrize("ctas", [132, 112, 80, 1])
@pytest.mark.parametrize(("tokens", "depth", "columns"), [(2048, 1024, 6144), (520, 4096, 1024), (65, 448, 1216)])
def test_a_gpu_computes_what_the_twin_says(tokens, depth, columns, ctas):
    assert Case(tokens, depth, columns).error(ctas=ctas, run=on_gpu) < LIMIT


@hopper.needs_compiler
@pytest.mark.parametrize(("tokens", "depth", "columns", "ctas"), [(2048, 4096, 6144, 112), (64, 14336, 4096, 132), (520, 2048, 1216, 1)])
def test_compiled_for_the_h200_it_spills_no_register_and_needs_no_memory(tokens, depth, columns, ctas):
    operands = jax.ShapeDtypeStruct((tokens, depth), jnp.bfloat16), jax.ShapeDtypeStruct((depth, columns), jnp.bfloat16)
    compiled = hopper.compile_for_h200(kernel(ctas), *operands)
    assert compiled.spilled_bytes == 0, compiled.ptxas
    assert "serialized" not in compiled.ptxas
    assert "product" in compiled.ptxas and compiled.temporaries_bytes < 1e5


@hopper.needs_mosaic
def test_a_share_is_one_kernel_for_all_programs_on_a_chip_that_has_it_and_xlas_product_elsewhere():
    def chosen(ctas, *, device_kind="NVIDIA H200", dtype="bfloat16"):
        return best_product(device_kind=device_kind, dtype=jnp.dtype(dtype), ctas=ctas)

    assert chosen(112) is chosen(112) is not chosen(96)
    assert chosen(112) is not reference.product
    assert chosen(None) is chosen(112, device_kind="cpu") is chosen(112, dtype="float32") is reference.product


def test_no_multiprocessor_at_all_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        best_product(device_kind="NVIDIA H200", dtype=jnp.dtype("bfloat16"), ctas=0)


def test_shares_are_those_of_the_chip():
    def own(multiprocessors=None, *, device_kind="NVIDIA H200", dtype="bfloat16"):
        return shares(device_kind=device_kind, dtype=np.dtype(dtype), multiprocessors=multiprocessors)

    assert own() == own(132) == (80, 96, 112, 132)
    assert own(114, device_kind="NVIDIA H100 PCIe") == (80, 96, 112, 114)
    assert own(78) == (78,)
    assert own(device_kind="cpu") == own(dtype="float32") == ()
