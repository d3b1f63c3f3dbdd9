"""Whole steps of an 8B-shaped model, compiled for the H200 on a machine without one, and what they may not do there.

The model has 2 of the 32 layers. A step holds each layer's operations one after the other, with a slice of the weights and a write to the
arena of its own each, so that what a layer copies shows between two. With all 32, decode and prefill had the same temporaries to 0.1 MB,
and none of these faults. XLA picks its matrix products without measuring here, so that the chip may run others of them.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from muxjax.buckets import BatchShape
from muxjax.cache.layout import BLOCK_BYTES, CacheLayout
from muxjax.device.batch import words
from muxjax.device.programs.environment import environment
from muxjax.device.programs.pool import CompileWorkers
from muxjax.device.programs.sources import StepSource
from muxjax.device.programs.store import ProgramStore
from muxjax.device.programs.target import shipped
from muxjax.device.programs.worker import Setup
from muxjax.device.step import step
from muxjax.model_spec import ModelSpec
from muxjax.models import decoder
from muxjax.pallas.kernels import Kernels, best
from muxjax.specs import published
from tests.pallas.hopper import Compiled, compile_for_h200, needs_compiler, program_for_h200

pytestmark = needs_compiler

LAYERS, SLOTS, COLUMNS = 2, 256, 64
SPEC = replace(published.BY_NAME["llama-3.1-8b"], layers=LAYERS, windows=(None,) * LAYERS)
LAYOUT = CacheLayout.of(SPEC, element_bytes=2)
ARENA = (200_001, BLOCK_BYTES // 2)
MB = 10**6


def batch_shape(*, decodes: int = 0, prompts: int = 0, tokens: int = 0) -> BatchShape:
    return BatchShape(columns=COLUMNS, tokens=decodes + tokens, decode_rows=decodes, prefill_rows=prompts)


def arrays(spec: ModelSpec = SPEC) -> tuple:
    """Parameters, arena, last tokens and block tables."""
    table = (LAYERS, SLOTS, spec.kv_heads, COLUMNS)
    ints = (jax.ShapeDtypeStruct(dims, jnp.int32) for dims in ((SLOTS,), table))
    return decoder.param_shapes(spec), jax.ShapeDtypeStruct(ARENA, jnp.bfloat16), *ints


def source(shape: BatchShape, *, tp: int = 1, element_bytes: int = 2, spec: ModelSpec = SPEC) -> StepSource:
    """What a step of that shape is made of, on tp chips; with 1 byte a number, its cache is FP8."""
    return StepSource(
        spec=spec,
        layout=CacheLayout.of(spec.share(tp), element_bytes=element_bytes),
        shape=shape,
        slots=SLOTS,
        columns=COLUMNS,
        blocks=ARENA[0],
        block_elements=ARENA[1],
        kv_dtype="bfloat16",
        tp=tp,
        tuned=False,
    )


def kernels() -> Kernels:
    return best(device_kind="NVIDIA H200", dtype=jnp.dtype(jnp.bfloat16), head_dim=SPEC.head_dim)


def faults(compiled: Compiled, shape: BatchShape, temporaries_bytes: int, spec: ModelSpec = SPEC) -> Iterator[tuple[str, object]]:
    """Kind and evidence of everything that a step must not do; registers are our kernels' and those of XLA's."""
    if copies := compiled.copies_of(*ARENA):
        yield "the arena is copied", copies
    if compiled.aliased_bytes < 2 * math.prod(ARENA):
        yield "the arena is not updated in place", compiled.aliased_bytes
    if written := list(weights_written(compiled, shape, spec)):
        yield "weights are copied", written
    if compiled.spills:
        yield "registers spill", compiled.spills
    if compiled.temporaries_bytes > temporaries_bytes:
        yield "temporaries are large", compiled.temporaries_bytes


def weights_written(compiled: Compiled, shape: BatchShape, spec: ModelSpec = SPEC) -> Iterator[str]:
    """What a kernel writes that is as large as a layer's smallest matrix, and neither the arena nor activations, which T or B tells."""
    smallest = min(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(decoder.param_shapes(spec)["layers"]) if leaf.ndim == 3)
    for dims, line in compiled.written(elements=smallest):
        if math.prod(dims) != math.prod(ARENA) and not {shape.tokens, shape.rows} & set(dims):
            yield line


STEPS = {
    "few rows": (batch_shape(decodes=8), 38 * MB),
    "decode": (batch_shape(decodes=64), 149 * MB),
    "prefill": (batch_shape(prompts=8, tokens=2048), 213 * MB),
    "mixed": (batch_shape(decodes=64, prompts=8, tokens=2048), 220 * MB),
}
"""And the bytes of temporaries allowed: a tenth more than measured."""


@pytest.mark.parametrize("name", STEPS)
def test_a_step_copies_neither_arena_nor_weights_spills_no_register_and_needs_little_memory(name):
    shape, temporaries_bytes = STEPS[name]
    compiled = program_for_h200(source(shape))
    assert list(faults(compiled, shape, temporaries_bytes)) == []


@pytest.mark.parametrize("name", STEPS)
def test_a_step_with_an_fp8_cache_on_the_same_arena_does_none_of_that_either(name):
    shape, temporaries_bytes = STEPS[name]
    compiled = program_for_h200(source(shape, element_bytes=1))
    assert list(faults(compiled, shape, temporaries_bytes)) == []


WITHIN_BYTES = {"prefill": 231 * MB, "mixed": 239 * MB}
"""The same of steps whose products keep to a share of the multiprocessors."""


@pytest.mark.parametrize("name", WITHIN_BYTES)
def test_a_step_within_a_share_of_the_multiprocessors_does_none_of_that_either(name):
    """Its kernels read a layer's part of the stacked weights where it lies."""
    shape, _ = STEPS[name]
    compiled = program_for_h200(source(replace(shape, sm_share=112)))
    assert list(faults(compiled, shape, WITHIN_BYTES[name])) == []
    assert len(re.findall(r" custom-call\(.*/product/", compiled.hlo)) == 4 * LAYERS
    assert len(re.findall(r" custom-call\(.*cublas", compiled.hlo)) == 1  # the head's, over few rows


@pytest.mark.parametrize("name", ["decode", "mixed"])
def test_a_step_on_two_devices_does_none_of_that_either_and_sums_twice_a_layer(name):
    """Beside those, one sum for the embedding; and the logits of both, for each to draw from. The sums of a decode are kernels that read
    what the other device has, and not NCCL's."""
    shape, temporaries_bytes = STEPS[name]
    own = SPEC.share(2)
    compiled = program_for_h200(source(shape, tp=2), devices=2)
    assert list(faults(compiled, shape, temporaries_bytes, own)) == []
    assert len(re.findall(r" all-reduce(?:-start)?\(", compiled.hlo)) == 2 * LAYERS + 1
    assert len(re.findall("KERNEL_STRATEGY_TRITON_(?:ONE|TWO)_SHOT", compiled.hlo)) == (2 * LAYERS + 1 if name == "decode" else 0)
    assert len(re.findall(r" all-gather(?:-start)?\(", compiled.hlo)) == 1


LATENTS = replace(published.BY_NAME["deepseek-v2-lite"], layers=LAYERS, windows=(None,) * LAYERS, experts=None, ffn=2048, rope_scaling=None)


@pytest.mark.parametrize("name", ["decode", "mixed"])
def test_a_step_over_latents_which_do_not_fill_their_blocks_copies_no_arena_either(name):
    shape, _ = STEPS[name]
    compiled = program_for_h200(source(shape, spec=LATENTS))
    assert CacheLayout.of(LATENTS, element_bytes=2).tokens_per_block == 14
    assert compiled.copies_of(*ARENA) == []
    assert compiled.aliased_bytes >= 2 * math.prod(ARENA)


def test_a_step_that_does_all_of_that_is_noticed():
    shape = batch_shape(prompts=8, tokens=256)
    packed = jax.ShapeDtypeStruct((words(shape),), jnp.int32)
    compiled = compile_for_h200(partial(careless_step, shape), *arrays(), packed, options={"xla_gpu_enable_triton_gemm": False})
    assert [kind for kind, _ in faults(compiled, shape, STEPS["prefill"][1])] == [
        "the arena is copied",
        "the arena is not updated in place",
        "weights are copied",
        "registers spill",
        "temporaries are large",
    ]


def careless_step(shape: BatchShape, params, *rest):
    """Donates nothing, hands XLA weights that are no parameters, and attends with tiles too wide for the registers."""
    from muxjax.pallas.prefill import PrefillTuning, prefill

    wide = partial(prefill, tuning=PrefillTuning(tile_tokens=256, stages=1, weights_in_registers=True))
    layers = jax.lax.optimization_barrier(jax.tree.map(jnp.negative, params["layers"]))
    return step(params | {"layers": layers}, *rest, spec=SPEC, layout=LAYOUT, shape=shape, kernels=kernels()._replace(prefill=wide))


def test_a_worker_without_a_gpu_leaves_a_program_for_it_in_the_store(tmp_path):
    made_for = environment("NVIDIA H200")
    setup = Setup(target=shipped("H200"), devices=1, folder=tmp_path, environment=made_for, tuning=None, niceness=0)
    workers = CompileWorkers(setup, 1)
    try:
        assert workers.compile(source(batch_shape(decodes=64)), (0,)).result() == ""
    finally:
        workers.close()
    path = ProgramStore(tmp_path, made_for).path(repr(source(batch_shape(decodes=64))))
    assert path is not None and path.stat().st_size > 100_000


READS = {
    "in place": (lambda matrix: matrix, False),
    "a slice made first": (jax.lax.optimization_barrier, True),
    "transposed first": (lambda matrix: jax.lax.optimization_barrier(matrix.T).T, True),
    "beside another": (lambda matrix: jax.lax.optimization_barrier(jnp.concatenate([matrix, -matrix], axis=1)), True),
}


@pytest.mark.parametrize("case", READS)
def test_one_layers_matrix_is_seen_where_it_is_copied(case):
    read, copied = READS[case]
    shape = batch_shape(decodes=64)
    matrices = jax.ShapeDtypeStruct((LAYERS, SPEC.width, SPEC.width), jnp.bfloat16)
    rows = jax.ShapeDtypeStruct((shape.rows, SPEC.width), jnp.bfloat16)
    compiled = compile_for_h200(lambda matrices, rows: rows @ read(matrices[1]), matrices, rows)
    assert any(weights_written(compiled, shape)) is copied
