"""Shapes that a start waits for hold every step; a toy model needs but one. Steps that decode few rows alone may be tuned."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.buckets import BatchShape, Buckets, StepSize
from muxjax.cache.layout import CacheLayout
from muxjax.demo.recipes import RECIPES
from muxjax.device.programs.needs import ProgramNeeds
from muxjax.device.programs.sources import StepSource, untuned
from muxjax.model_spec import ModelSpec
from muxjax.quantization import Quantization
from muxjax.specs.published import BY_NAME

SLOTS, CHUNKS, TOKENS = 8, 8, 256


def needs(spec: ModelSpec) -> ProgramNeeds:
    layout = CacheLayout.of(spec, element_bytes=4, block_bytes=2**15)
    buckets = Buckets.of(layout, slots=SLOTS, max_tokens=128, token_budget=TOKENS, prefill_rows=CHUNKS, ragged=False)
    return ProgramNeeds(spec=spec, layout=layout, buckets=buckets, slots=SLOTS, columns=layout.columns(128), tp=1)


@pytest.mark.parametrize("name", RECIPES)
def test_a_toy_waits_for_one_shape_and_a_large_model_for_one_of_each_kind(name):
    (toys_only,) = needs(RECIPES[name].spec).essential
    assert toys_only.prefill_rows and toys_only.decode_rows == SLOTS
    decoding, mixed = needs(BY_NAME["llama-3.2-1b"]).essential
    assert not decoding.prefill_rows and mixed.prefill_rows


@given(st.integers(0, SLOTS), st.integers(0, CHUNKS), st.integers(1, TOKENS // 8))
def test_every_step_fits_what_a_start_waits_for(decodes, chunks, grains):
    for spec in (RECIPES["sea"].spec, BY_NAME["llama-3.2-1b"]):
        own = needs(spec)
        size = StepSize(
            decodes=decodes, chunks=chunks, tokens=-(-decodes // 8) * 8 + 8 * grains if chunks else decodes, columns=own.buckets.columns[-1]
        )
        assert any(size.fits(shape) for shape in own.essential)


@pytest.mark.parametrize(
    ("rows", "chunks", "tuned"),
    [(8, 0, True), (32, 0, True), (64, 0, False), (96, 0, True), (128, 0, True), (160, 0, False), (8, 8, False)],
)
def test_only_steps_that_decode_few_rows_look_for_tuned_products(rows, chunks, tuned):
    shape = BatchShape(columns=4, tokens=rows + 16 * chunks, decode_rows=rows, prefill_rows=chunks)
    step, *others = needs(BY_NAME["llama-3.2-1b"]).of_shape(shape, jax.ShapeDtypeStruct((64, 128), jnp.float32))

    assert isinstance(step, StepSource) and step.tuned == tuned
    assert ("xla_gpu_enable_triton_gemm" in step.options("gpu")) != tuned
    assert not any(isinstance(other, StepSource) for other in others)


@pytest.mark.parametrize(("rows", "chunks", "tuned"), [(8, 0, True), (64, 0, True), (160, 0, True), (8, 8, False)])
def test_quantised_matrices_are_for_xlas_products_in_every_decode_tuned_or_not(rows, chunks, tuned):
    spec = replace(BY_NAME["llama-3.2-1b"], quantization=Quantization(kinds=("qkv", "o")))
    shape = BatchShape(columns=4, tokens=rows + 16 * chunks, decode_rows=rows, prefill_rows=chunks)
    step, *_ = needs(spec).of_shape(shape, jax.ShapeDtypeStruct((64, 128), jnp.float32))
    assert isinstance(step, StepSource) and step.tuned == tuned
    for source in (step, untuned(step)):
        assert ("xla_gpu_enable_triton_gemm" in source.options("gpu")) == bool(chunks)
        assert "slice-sinker" in str(source.options("gpu")["xla_disable_hlo_passes"])
