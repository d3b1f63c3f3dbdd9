"""Steps of an 8B-shaped model whose matrices are quantised, compiled for the H200: what they write of its weights besides reading them."""

import math
import re
from collections import Counter
from dataclasses import replace

import pytest

from muxjax.device.programs.sources import StepSource
from muxjax.quantization import INT4, Quantization
from tests.device.test_steps_for_h200 import ARENA, LAYERS, MB, SPEC, batch_shape, source
from tests.pallas.hopper import Compiled, needs_compiler, program_for_h200

pytestmark = needs_compiler
KINDS = ("qkv", "o", "gate_up", "down")
LARGEST_BYTES = 2 * 2 * SPEC.ffn * SPEC.width
"""A layer's largest matrix in bfloat16."""


def widened(compiled: Compiled, rows: int) -> list[str]:
    """What a kernel writes that is as large as a layer's smallest matrix, and neither the arena nor sums of rows."""
    written = compiled.written(elements=SPEC.heads * SPEC.head_dim * SPEC.width)
    return [line for dims, line in written if math.prod(dims) != math.prod(ARENA) and rows not in dims]


BY_OUTPUTS = Quantization(kinds=KINDS)
FORMS = {
    "fp8 by outputs": BY_OUTPUTS,
    "fp8 by blocks": Quantization(kinds=KINDS, group=128),
    "int4": Quantization(kinds=KINDS, group=128, dtype=INT4, has_zeros=True),
}


def quantised(shape, how: Quantization) -> StepSource:
    return replace(source(shape), spec=replace(SPEC, quantization=how))


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("form", FORMS)
def test_a_decode_widens_no_matrix_in_memory(rows, form):
    shape, how = batch_shape(decodes=rows), FORMS[form]
    compiled = program_for_h200(quantised(shape, how))
    assert widened(compiled, rows) == []
    sums_bytes = 0 if how.group is None else 4 * max(rows, 2) * 2 * SPEC.ffn * SPEC.width // how.group
    assert compiled.temporaries_bytes < 5 * MB + 1.1 * sums_bytes


@pytest.mark.parametrize("form", FORMS)
def test_a_prefill_widens_a_matrix_at_a_time(form):
    """As cuBLASLt takes none of those numbers with activations in bfloat16."""
    shape = batch_shape(prompts=8, tokens=2048)
    activations_bytes = 290 * MB
    assert program_for_h200(quantised(shape, FORMS[form])).temporaries_bytes < LARGEST_BYTES + activations_bytes


@pytest.mark.parametrize("tokens", [64, 2048])
def test_a_prefill_that_rounds_activations_multiplies_in_8_bits(tokens):
    """All matrices of a layer, and cuBLASLt wants each transposed, one at a time; the head stays as it is."""
    shape = batch_shape(prompts=8, tokens=tokens)
    compiled = program_for_h200(quantised(shape, replace(BY_OUTPUTS, rounds_prompts=True)))
    targets = Counter(re.findall(r'custom_call_target="(__cublas[^"]*)"', compiled.hlo))
    assert targets == {"__cublas$lt$matmul$f8": 4 * LAYERS, "__cublas$lt$matmul": 1}
    made = [math.prod(dims) for dims, line in compiled.written(elements=SPEC.width**2) if " f8e4m3fn[" in line]
    assert all(elements <= LARGEST_BYTES // 2 for elements in made)
    activations_bytes = 290 * MB
    assert compiled.temporaries_bytes < LARGEST_BYTES // 2 + activations_bytes


def test_steps_that_only_decode_or_keep_to_a_share_round_no_activations():
    how = replace(BY_OUTPUTS, rounds_prompts=True)
    for shape in (batch_shape(decodes=64), replace(batch_shape(prompts=8, tokens=2048), sm_share=112)):
        assert "$f8" not in program_for_h200(quantised(shape, how)).hlo


def test_a_step_that_sinks_slices_widens_all_layers_at_once(monkeypatch):
    """What the options of quantised models prevent."""
    monkeypatch.setattr("muxjax.device.programs.sources._QUANTISED", {"xla_disable_hlo_passes": "rematerialization"})
    shape = batch_shape(decodes=64)
    assert widened(program_for_h200(quantised(shape, BY_OUTPUTS)), 64)
