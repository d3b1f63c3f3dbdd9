"""Programs behind a step of a model with a large vocabulary, compiled for the H200 on a machine without one."""

import functools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from muxjax.device.logprobs import SCORED_AT_A_TIME, token_logprobs
from muxjax.device.programs.sources import RecountSource, RowsSource, ScoreSource
from muxjax.models import decoder
from muxjax.specs import published
from tests.pallas.hopper import compile_for_h200, needs_compiler, program_for_h200

pytestmark = needs_compiler

SPEC = replace(published.BY_NAME["llama-3.1-8b"], layers=1, windows=(None,))
SLOTS, ROWS, TOKENS = 256, 64, 2048
COUNTS = jax.ShapeDtypeStruct((SLOTS, SPEC.vocab), jnp.int16)
COUNTS_BYTES = 2 * math.prod(COUNTS.shape)
LOGITS_BYTES = 4 * ROWS * SPEC.vocab


@functools.cache
def post_step(name: str):
    return program_for_h200(RowsSource(name=name, rows=ROWS, vocab=SPEC.vocab, slots=SLOTS, tp=1))


@pytest.mark.parametrize(("name", "arrays"), [("adjust", 2.1), ("tell", 0.1), ("count", 0.1), ("draw", 6.1)])
def test_a_program_behind_a_step_needs_the_memory_of_few_arrays_of_logits(name, arrays):
    assert post_step(name).temporaries_bytes <= arrays * LOGITS_BYTES


def test_counts_are_updated_in_place():
    for compiled in (post_step("count"), program_for_h200(RecountSource(vocab=SPEC.vocab, slots=SLOTS, tp=1))):
        assert compiled.aliased_bytes >= COUNTS_BYTES and not compiled.copies_of(*COUNTS.shape)
        assert compiled.temporaries_bytes < COUNTS_BYTES / 10
    careless = compile_for_h200(lambda counts_SV: counts_SV.at[3].set(0), COUNTS)
    assert careless.aliased_bytes == 0


def test_a_prompt_is_scored_without_all_its_logits():
    spec, most = SPEC, 4 * SCORED_AT_A_TIME * SPEC.vocab
    compiled = program_for_h200(ScoreSource(spec=spec, tokens=TOKENS, tp=1))
    assert compiled.temporaries_bytes <= 2 * most
    assert not list(compiled.written(elements=TOKENS * spec.vocab))
    hidden = jax.ShapeDtypeStruct((TOKENS, spec.width), jnp.bfloat16), jax.ShapeDtypeStruct((TOKENS,), jnp.int32)
    careless = compile_for_h200(
        lambda params, hidden_TM, follow_T: token_logprobs(decoder.logits(spec, params, hidden_TM), follow_T),
        decoder.param_shapes(spec),
        *hidden,
    )
    assert list(careless.written(elements=TOKENS * spec.vocab)) and careless.temporaries_bytes > 2 * most
