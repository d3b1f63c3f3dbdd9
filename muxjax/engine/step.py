"""The jit border: everything compiled that serves requests is here."""

import functools

import jax
import jax.numpy as jnp

from muxjax.cache.layout import CacheLayout
from muxjax.cache.store import PagedMemory
from muxjax.engine.batch import ROW_FIELDS, BatchShape
from muxjax.engine.sampling import Rows, sample
from muxjax.models import decoder
from muxjax.pallas.kernels import REFERENCE, Kernels, best
from muxjax.types import ModelSpec, Phase

_GPU_OPTIONS = {"xla_disable_hlo_passes": "rematerialization", "xla_gpu_enable_cub_radix_sort": False}
"""Rematerialization takes the arena, updated in place, for several arrays, and computes cheap values twice to make room for them.
CUB's sort fits in no CUDA graph: the conditional around sampling would leave the graph, and the host wait for its predicate."""

_PHASE_OPTIONS = {Phase.PREFILL: {"xla_gpu_enable_triton_gemm": False}, Phase.DECODE: {}}
"""For the same unrolled layers, cuBLASLt is faster on thousands of rows, and XLA's own matrix products on few."""


@functools.partial(jax.jit, static_argnames=("spec", "layout", "shape", "kernels"), donate_argnames=("blocks_NE", "last_S"))
def step(
    params: decoder.Params,
    blocks_NE: jax.Array,
    last_S: jax.Array,
    table_LSKC: jax.Array,
    packed: jax.Array,
    *,
    spec: ModelSpec,
    layout: CacheLayout,
    shape: BatchShape,
    kernels: Kernels = REFERENCE,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One prefill or decode step: the token sampled after each row's last one.

    Args:
      blocks_NE: the arena; donated and updated in place.
      last_S: the token sampled last in each of S slots; donated and updated in place.
      table_LSKC: the model's block tables.
      packed: a step of `batch.pack`.
    Returns:
      tokens [B] int32, the arena, and last_S.
    """
    tokens_T, row_B, sampling = _unpack(packed, shape)
    memory = _memory(blocks_NE, table_LSKC, row_B, layout=layout, shape=shape, kernels=kernels)
    slot_T = row_B["slot"].at[memory.row_T].get(mode="clip")
    tokens_T = jnp.where(tokens_T < 0, last_S.at[slot_T].get(mode="clip"), tokens_T)
    hidden_TM, memory = decoder.forward(spec, params, tokens_T, memory.position_T, memory)
    final_B = jnp.maximum(memory.offset_B + memory.count_B - 1, 0)
    logits_BV = decoder.logits(spec, params, hidden_TM[final_B])
    sampled_B = sample(logits_BV, sampling, memory.length_B)
    return sampled_B, memory.blocks_NE, last_S.at[row_B["slot"]].set(sampled_B, mode="drop")


def compile_step(
    params: decoder.Params,
    blocks_NE: jax.Array | jax.ShapeDtypeStruct,
    last_S: jax.Array,
    table_LSKC: jax.Array,
    *,
    spec: ModelSpec,
    layout: CacheLayout,
    shape: BatchShape,
) -> jax.stages.Compiled:
    """`step` of one shape, for the device and with the options that suit its phase; called without the keywords.

    The arguments may be `jax.ShapeDtypeStruct` with a sharding: the arena need not exist yet.
    """
    device = _device(blocks_NE)
    packed = jax.ShapeDtypeStruct((shape.words,), jnp.int32)
    kernels = best(device_kind=device.device_kind, dtype=blocks_NE.dtype, head_dim=layout.head_dim)
    lowered = step.lower(params, blocks_NE, last_S, table_LSKC, packed, spec=spec, layout=layout, shape=shape, kernels=kernels)
    return lowered.compile(compiler_options=_compiler_options(shape.phase, device.platform))


@functools.partial(jax.jit, donate_argnames="table_LSKC")
def update_table(table_LSKC: jax.Array, packed_U: jax.Array) -> jax.Array:
    """The tables with the columns of a `batch.pack_delta` taken over; donated and updated in place."""
    layers, _, kv_heads, _ = table_LSKC.shape
    slot_U, column_U = packed_U[:, 0], packed_U[:, 1]
    ids_ULK = packed_U[:, 2:].reshape(-1, layers, kv_heads)
    return table_LSKC.at[:, slot_U, :, column_U].set(ids_ULK, mode="drop")


def _device(array: jax.Array | jax.ShapeDtypeStruct) -> jax.Device:
    assert array.sharding is not None, "a step is compiled for the device that holds the arena"
    (device,) = array.sharding.device_set
    return device


def _compiler_options(phase: Phase, platform: str) -> dict[str, str | bool]:
    """Nothing but for a GPU: other compilers refuse its options."""
    return _GPU_OPTIONS | _PHASE_OPTIONS[phase] if platform == "gpu" else {}


def _unpack(packed: jax.Array, shape: BatchShape) -> tuple[jax.Array, dict[str, jax.Array], Rows]:
    row_B: dict[str, jax.Array] = dict(zip(ROW_FIELDS, packed[shape.tokens :].reshape(len(ROW_FIELDS), shape.rows), strict=True))
    floats = {name: jax.lax.bitcast_convert_type(row_B[name], jnp.float32) for name in ("temperature", "top_p", "min_p")}
    key_B2 = jax.lax.bitcast_convert_type(jnp.stack([row_B["seed_low"], row_B["seed_high"]], axis=1), jnp.uint32)
    return packed[: shape.tokens], row_B, Rows(top_k=row_B["top_k"], key_B2=key_B2, **floats)


def _memory(
    blocks_NE: jax.Array,
    table_LSKC: jax.Array,
    row_B: dict[str, jax.Array],
    *,
    layout: CacheLayout,
    shape: BatchShape,
    kernels: Kernels,
) -> PagedMemory:
    count_B, start_B = row_B["count"], row_B["start"]
    index_T = jnp.arange(shape.tokens, dtype=jnp.int32)
    if shape.phase is Phase.DECODE:
        offset_B, row_T = index_T, jnp.where(count_B > 0, index_T, shape.rows)
    else:
        end_B = jnp.cumsum(count_B)
        offset_B, row_T = end_B - count_B, jnp.searchsorted(end_B, index_T, side="right").astype(jnp.int32)
    position_T = (start_B - offset_B).at[row_T].get(mode="fill", fill_value=0) + index_T
    return PagedMemory(
        blocks_NE=blocks_NE,
        table_LBKC=table_LSKC[:, :, :, : shape.columns].at[:, row_B["slot"]].get(mode="clip"),
        row_T=row_T,
        position_T=jnp.where(row_T < shape.rows, position_T, 0),
        offset_B=offset_B,
        count_B=count_B,
        length_B=start_B + count_B,
        layout=layout,
        phase=shape.phase,
        kernels=kernels,
    )
