"""A step of a mixture of Qwen3-30B-A3B's shape, compiled for the H200: a layer's experts are read where they lie."""

import re
from dataclasses import replace

import pytest

from muxjax.buckets import BatchShape
from muxjax.cache.layout import BLOCK_BYTES, CacheLayout
from muxjax.device.programs.sources import StepSource
from muxjax.quantization import Quantization
from muxjax.specs import published
from tests.pallas.hopper import needs_compiler, program_for_h200

pytestmark = needs_compiler

FULL = published.BY_NAME["qwen3-30b-a3b"]
SPEC = replace(FULL, layers=2, windows=(None, None), experts=FULL.experts and replace(FULL.experts, layers=(0, 1)))


STEPS = {
    "decode": BatchShape(columns=64, tokens=64, decode_rows=64),
    "prefill": BatchShape(columns=64, tokens=2048, prefill_rows=8),
}


BLOCKS = Quantization(kinds=("qkv", "o", "expert_gate_up", "expert_down"), group=128)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("quantization", [None, BLOCKS], ids=["whole", "fp8"])
def test_no_layers_experts_are_copied_or_widened_together(name, quantization):
    source = StepSource(
        spec=replace(SPEC, quantization=quantization),
        layout=CacheLayout.of(SPEC, element_bytes=2),
        shape=STEPS[name],
        slots=256,
        columns=64,
        blocks=200_001,
        block_elements=BLOCK_BYTES // 2,
        kv_dtype="bfloat16",
        tp=1,
        tuned=False,
    )
    assert SPEC.experts
    down_bytes = 2 * SPEC.experts.count * SPEC.experts.ffn * SPEC.width
    compiled = program_for_h200(source)
    assert compiled.temporaries_bytes < down_bytes
    kernels, loops = (len(re.findall(pattern, compiled.hlo)) for pattern in (r" custom-call\(.*/grouped_product/", r" while\("))
    assert (kernels == 2 * SPEC.layers and not loops) if quantization is None else (loops and not kernels)
