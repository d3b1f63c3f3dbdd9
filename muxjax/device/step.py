"""The jit border: everything compiled that serves requests is here."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from muxjax.buckets import BatchShape
from muxjax.cache.layout import CacheLayout
from muxjax.device import batch
from muxjax.device.batch import ROW_FIELDS
from muxjax.device.logprobs import TopTokens, prompt_logprobs, token_logprobs
from muxjax.device.paged_memory import Chunks, Decodes, PagedMemory
from muxjax.device.penalties import count_tokens, likeliest, process_logits
from muxjax.device.sampling import Rows, greedy, sample
from muxjax.model_spec import ModelSpec
from muxjax.models import decoder
from muxjax.models.layers import Products
from muxjax.models.lora import stacks
from muxjax.models.lora.adapters import NO_PLACE, Adapters, Pairs
from muxjax.models.sharding import AXIS, OWN, SAME, partitions
from muxjax.pallas.kernels import REFERENCE, Kernels
from muxjax.scheduler.view import grains


class Loras(NamedTuple):
    """The adapters of a model that has places for some.

    Args:
      pairs: of all places.
      place_S: int32, that of the adapter of each of S slots, or NO_PLACE.
    """

    pairs: Pairs
    place_S: jax.Array


class StepArrays(NamedTuple):
    """Outputs of a compiled step, on the devices.

    Attributes:
      tokens_B: int32, the likeliest token after each row's last one.
      logits_BV: float32, as the model made them.
      hidden_TM: the decoder's output, nothing of a step that only decodes.
      blocks_NE, last_S: in place of the arguments of these names.
    """

    tokens_B: jax.Array
    logits_BV: jax.Array
    hidden_TM: jax.Array
    blocks_NE: jax.Array
    last_S: jax.Array


@functools.partial(jax.jit, static_argnames=("spec", "layout", "shape", "kernels", "mesh"), donate_argnames=("blocks_NE", "last_S"))
def step(
    params: decoder.Params,
    blocks_NE: jax.Array,
    last_S: jax.Array,
    table_LSKC: jax.Array,
    packed: jax.Array,
    loras: Loras | None = None,
    *,
    spec: ModelSpec,
    layout: CacheLayout,
    shape: BatchShape,
    kernels: Kernels = REFERENCE,
    mesh: Mesh | None = None,
) -> StepArrays:
    """One step of decodes, chunks of prompts or both: the likeliest token after each row's last one, and what the programs behind it need.

    On a mesh, each device runs it with its part of the weights and an arena of its own, and all else is the same on all of them.

    Args:
      blocks_NE: the arena, those of a mesh one after the other; donated and updated in place.
      last_S: the token sampled last in each of S slots; donated and updated in place.
      table_LSKC: the model's block tables.
      packed: a step of `batch.pack`.
      loras: None of a model that has no place for adapters.
      layout: of the heads that one device holds.
    """
    run = functools.partial(_step, spec=spec, layout=layout, shape=shape, kernels=kernels, tp=mesh.size if mesh else 1)
    if mesh:
        places = loras and Loras(stacks.partitions(spec, places=True), SAME)  # pyright: ignore[reportArgumentType]  (a tree of partitions)
        inputs = partitions(spec), OWN, SAME, SAME, SAME, places
        outputs = StepArrays(SAME, SAME, SAME, OWN, SAME)  # pyright: ignore[reportArgumentType]  (a tree of partitions)
        run = jax.shard_map(run, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False)
    return run(params, blocks_NE, last_S, table_LSKC, packed, loras)


def _step(
    params: decoder.Params,
    blocks_NE: jax.Array,
    last_S: jax.Array,
    table_LSKC: jax.Array,
    packed: jax.Array,
    loras: Loras | None,
    *,
    spec: ModelSpec,
    layout: CacheLayout,
    shape: BatchShape,
    kernels: Kernels,
    tp: int,
) -> StepArrays:
    """The part of one of tp devices in a step."""
    across = AXIS if tp > 1 else None
    tokens_T, row_B = packed[: shape.tokens], _rows(packed[shape.tokens :])
    memory = _memory(blocks_NE, table_LSKC, row_B, layout=layout, shape=shape, kernels=kernels)
    tokens_T = jnp.where(tokens_T < 0, last_S.at[memory.slot_T].get(mode="clip"), tokens_T)
    inputs = params, tokens_T, memory.position_T, memory
    adapters = loras and _adapters(loras, memory.slot_T, kernels)
    products = Products(kernels.product, kernels.grouped_product)
    hidden_TM, memory = decoder.forward(spec.share(tp), *inputs, across=across, products=products, adapters=adapters)
    logits_BV = _logits(params, hidden_TM[_final(memory)], spec=spec, tp=tp)
    tokens_B = greedy(logits_BV)
    last_S = last_S.at[row_B["slot"]].set(tokens_B, mode="drop")
    return StepArrays(tokens_B, logits_BV, hidden_TM if shape.prefill_rows else hidden_TM[:0], memory.blocks_NE, last_S)


def _adapters(loras: Loras, slot_T: jax.Array, kernels: Kernels) -> Adapters:
    """As the decoder of those slots' tokens sees them; padding has none."""
    return Adapters(loras.pairs, loras.place_S.at[slot_T].get(mode="fill", fill_value=NO_PLACE), kernels.lora)


def _logits(params: decoder.Params, hidden_BM: jax.Array, *, spec: ModelSpec, tp: int) -> jax.Array:
    """[B, V], the same on each of tp devices."""
    logits_BV = decoder.logits(spec.share(tp), params, hidden_BM)
    return logits_BV if tp == 1 else jax.lax.all_gather(logits_BV, AXIS, axis=1, tiled=True)[:, : spec.vocab]


class Adjusted(NamedTuple):
    """Outputs of `adjust`: the likeliest tokens int32, the logits, and last_S in place of the argument."""

    tokens_B: jax.Array
    logits_BV: jax.Array
    last_S: jax.Array


@functools.partial(jax.jit, donate_argnames="last_S")
def adjust(
    tokens_B: jax.Array,
    logits_BV: jax.Array,
    last_S: jax.Array,
    counts_SV: jax.Array,
    packed_rows: jax.Array,
    penalties_B3: jax.Array,
    edits_U3: jax.Array,
    bits_BW: jax.Array,
) -> Adjusted:
    """The logits processors of a step's rows, before `draw`; see `penalties.process_logits`.

    Args:
      last_S: donated.
      counts_SV: what each slot has of each token, int16; see `penalties.PROMPT`.
      packed_rows: what follows the tokens in a step of `batch.pack`.
    """
    slot_B = _rows(packed_rows)["slot"]
    logits_BV = process_logits(logits_BV, counts_SV.at[slot_B].get(mode="clip"), penalties_B3, edits_U3, bits_BW)
    tokens_B = likeliest(logits_BV, tokens_B)
    return Adjusted(tokens_B, logits_BV, last_S.at[slot_B].set(tokens_B, mode="drop"))


@functools.partial(jax.jit, donate_argnames="counts_SV")
def count(counts_SV: jax.Array, slot_B: jax.Array, tokens_B: jax.Array) -> jax.Array:
    """The counts with the tokens of a step; donated and updated in place. A slot beyond all has none."""
    return count_tokens(counts_SV, slot_B, tokens_B)


@functools.partial(jax.jit, donate_argnames="counts_SV")
def recount(counts_SV: jax.Array, slot: jax.Array, count_V: jax.Array) -> jax.Array:
    """The counts with those of one slot replaced; donated and updated in place."""
    return counts_SV.at[slot].set(count_V, mode="drop")


@jax.jit
def tell(logits_BV: jax.Array, tokens_B: jax.Array) -> TopTokens:
    """Log-probabilities of a step's tokens, of the logits as the model made them."""
    return token_logprobs(logits_BV, tokens_B)


@functools.partial(jax.jit, static_argnames=("spec", "mesh"))
def score(params: decoder.Params, hidden_TM: jax.Array, follow_T: jax.Array, *, spec: ModelSpec, mesh: Mesh | None = None) -> TopTokens:
    """Log-probabilities of the prompt's tokens that follow those of a step's chunks; logits of few positions exist at a time."""

    def run(params: decoder.Params, hidden_TM: jax.Array, follow_T: jax.Array) -> TopTokens:
        logits_of = functools.partial(_logits, params, spec=spec, tp=mesh.size if mesh else 1)
        return prompt_logprobs(logits_of, hidden_TM, follow_T)

    if mesh:
        run = jax.shard_map(run, mesh=mesh, in_specs=(partitions(spec), SAME, SAME), out_specs=SAME, check_vma=False)
    return run(params, hidden_TM, follow_T)


@functools.partial(jax.jit, static_argnames="rows")
def pool(hidden_TM: jax.Array, row_T: jax.Array, *, rows: int) -> jax.Array:
    """[rows, M] float32, sums of a step's hidden states by the row that each is added to, which may be none."""
    own_TB = row_T[:, None] == jnp.arange(rows)
    wanted_TM = jnp.where(own_TB.any(axis=1)[:, None], hidden_TM.astype(jnp.float32), 0.0)  # padding may be anything
    return jnp.matmul(own_TB.T.astype(jnp.float32), wanted_TM, precision=jax.lax.Precision.HIGHEST)


@functools.partial(jax.jit, donate_argnames="last_S")
def draw(tokens_B: jax.Array, logits_BV: jax.Array, last_S: jax.Array, packed_rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The tokens of a step some of whose rows are random; greedy ones keep theirs.

    A program of its own, launched behind the step where it is needed: inside every step, a conditional around it costs 30 us even
    where all rows are greedy, and most of the time to compile (docs/decisions/0013).

    Args:
      packed_rows: what follows the tokens in a step of `batch.pack`.
    Returns:
      tokens [B] int32, and last_S, which is donated.
    """
    row_B = _rows(packed_rows)
    tokens_B = sample(logits_BV, tokens_B, _settings(row_B), row_B["start"] + row_B["count"])
    return tokens_B, last_S.at[row_B["slot"]].set(tokens_B, mode="drop")


@functools.partial(jax.jit, static_argnames=("spec", "mesh"), donate_argnames="pairs")
def put_adapter(pairs: Pairs, one: Pairs, place: jax.Array, *, spec: ModelSpec, mesh: Mesh | None = None) -> Pairs:
    """The places of adapters with one in that place; donated and updated in place."""
    run = stacks.put
    if mesh:
        whole, own = (stacks.partitions(spec, places=places) for places in (True, False))
        run = jax.shard_map(run, mesh=mesh, in_specs=(whole, own, SAME), out_specs=whole, check_vma=False)
    return run(pairs, one, place)


@functools.partial(jax.jit, donate_argnames="table_LSKC")
def update_table(table_LSKC: jax.Array, packed_U: jax.Array) -> jax.Array:
    """The tables with the columns of a `batch.pack_delta` taken over; donated and updated in place."""
    layers, _, kv_heads, _ = table_LSKC.shape
    slot_U, column_U = packed_U[:, 0], packed_U[:, 1]
    ids_ULK = packed_U[:, 2:].reshape(-1, layers, kv_heads)
    return table_LSKC.at[:, slot_U, :, column_U].set(ids_ULK, mode="drop")


def _rows(packed_rows: jax.Array) -> dict[str, jax.Array]:
    """[B] int32 each, by the names of ROW_FIELDS."""
    return dict(zip(ROW_FIELDS, packed_rows.reshape(len(ROW_FIELDS), -1), strict=True))


def _settings(row_B: dict[str, jax.Array]) -> Rows:
    floats = {name: jax.lax.bitcast_convert_type(row_B[name], jnp.float32) for name in ("temperature", "top_p", "min_p")}
    key_B2 = jax.lax.bitcast_convert_type(jnp.stack([row_B["seed_low"], row_B["seed_high"]], axis=1), jnp.uint32)
    return Rows(top_k=row_B["top_k"], key_B2=key_B2, **floats)


def _memory(
    blocks_NE: jax.Array,
    table_LSKC: jax.Array,
    row_B: dict[str, jax.Array],
    *,
    layout: CacheLayout,
    shape: BatchShape,
    kernels: Kernels,
) -> PagedMemory:
    most, slot_B, count_B, length_B = shape.decode_rows, row_B["slot"], row_B["count"], row_B["start"] + row_B["count"]
    decodes = Decodes(slot_B=slot_B[:most], length_B=length_B[:most])
    chunks = Chunks(
        slot_B=slot_B[most:],
        offset_B=grains(count_B[:most].sum()) + batch.offsets(count_B[most:], jnp.cumsum),
        count_B=count_B[most:],
        length_B=length_B[most:],
    )
    slot_T, position_T = _tokens(decodes, chunks, shape.tokens)
    return PagedMemory(
        blocks_NE=blocks_NE,
        table_LSKC=table_LSKC[:, :, :, : shape.columns],
        slot_T=slot_T,
        position_T=position_T,
        decodes=decodes,
        chunks=chunks,
        layout=layout,
        kernels=kernels,
    )


def _tokens(decodes: Decodes, chunks: Chunks, tokens: int) -> tuple[jax.Array, jax.Array]:
    """Slot and position of each token; padding is nobody's, at position 0."""
    slot_T, position_T = _of_chunks(chunks, tokens)
    most, alone_B = decodes.slot_B.size, decodes.length_B > 0
    slot_B = jnp.where(alone_B, decodes.slot_B, slot_T[:most])
    position_B = jnp.where(alone_B, decodes.length_B - 1, position_T[:most])
    return jnp.concatenate([slot_B, slot_T[most:]]), jnp.concatenate([position_B, position_T[most:]])


def _of_chunks(chunks: Chunks, tokens: int) -> tuple[jax.Array, jax.Array]:
    """The same for what chunks have of the tokens, and padding for the rest."""
    index_T = jnp.arange(tokens, dtype=jnp.int32)
    own_TB = (chunks.offset_B <= index_T[:, None]) & (index_T[:, None] < chunks.offset_B + chunks.count_B)
    position_TB = chunks.length_B - chunks.count_B - chunks.offset_B + index_T[:, None]
    slot_T = jnp.where(own_TB, chunks.slot_B, batch.BEYOND).min(axis=1, initial=batch.BEYOND)
    return slot_T, jnp.where(own_TB, position_TB, 0).sum(axis=1)


def _final(memory: PagedMemory) -> jax.Array:
    """[B] where in T each row's last token is; anywhere for padding."""
    most, chunks = memory.decodes.slot_B.size, memory.chunks
    return jnp.concatenate([jnp.arange(most, dtype=jnp.int32), jnp.maximum(chunks.offset_B + chunks.count_B - 1, 0)])
