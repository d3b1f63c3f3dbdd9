"""Shapes that a start waits for hold every step; a toy model needs but one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.buckets import Buckets, StepSize
from muxjax.cache.layout import CacheLayout
from muxjax.demo.recipes import RECIPES
from muxjax.device.programs.needs import ProgramNeeds
from muxjax.specs.published import BY_NAME
from muxjax.types import ModelSpec

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
        size = StepSize(decodes=decodes, chunks=chunks, tokens=8 * grains if chunks else 0, columns=own.buckets.columns[-1])
        assert any(size.fits(shape) for shape in own.essential)
