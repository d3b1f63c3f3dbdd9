"""Reference of each kernel, in plain `jnp`: slow, short, and the truth that the kernels are tested against.

Shapes: `pool_N2PD` is the arena as a model sees it, K at 0 and V at 1 of each block. Where its last axis is shorter than a query's, K and V
are packed FP8 (`fp8`). Of latents, of which K and V are one, it is [N, E]: a block has E // D whole tokens, and the rest of it is nobody's.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from muxjax.pallas import fp8

ROW_GRAIN = 8
"""Chunks begin at multiples of so many tokens in a packed batch, so that all of a group are one row's; so do the rows of each of several
matrices."""
_ROWS_AT_ONCE = 64
"""Rows of one matrix that are multiplied at once where several matrices have rows."""
_TOKENS_BY_GROUP = 64
"""Most tokens for which products of groups of inputs are scaled one by one: the sums of so many are less to write than the whole matrix."""
_AT_ONCE_ELEMENTS = 2**20
"""Elements of the keys of groups that are attended from at once."""


class Places(NamedTuple):
    """Places of a batch's keys and values in one layer.

    Args:
      table_LSKC: the blocks of every slot, column by column. Entries past a row's length, or before its window, name any block at
        all and are never read for their value.
      layer: int32 scalar, an array so that one kernel serves all layers.
      slot_B: the slot of each row, or of each token where tokens are written; S or more for padding.
    """

    table_LSKC: jax.Array
    layer: jax.Array
    slot_B: jax.Array

    @property
    def kv_heads(self) -> int:
        return self.table_LSKC.shape[2]

    def rows(self) -> jax.Array:
        """[B, K, C] the rows' part of the table; any row's at all for padding."""
        return self.table_LSKC.at[self.layer, self.slot_B].get(mode="clip")


def product(x_TI: jax.Array, w_IO: jax.Array, scale_JO: jax.Array | None = None, zero_JO: jax.Array | None = None) -> jax.Array:
    """x times w, [T, O]; bf16 is summed in float32.

    Args:
      scale_JO: float32, of a quantised w, whose J equal groups of inputs are numbers times these; None for one that is no numbers.
      zero_JO: int8, what is taken from those numbers first; None for nothing.
    """
    if scale_JO is None:
        return x_TI @ w_IO
    (tokens, inputs), groups = x_TI.shape, len(scale_JO)
    if groups > 1 and tokens > _TOKENS_BY_GROUP:
        return x_TI @ widened(w_IO, scale_JO, zero_JO, x_TI.dtype)
    if groups > 1 and tokens == 1:  # by a single row, XLA would write w in float32
        return product(jnp.pad(x_TI, ((0, 1), (0, 0))), w_IO, scale_JO, zero_JO)[:1]
    x_JTG = x_TI.reshape(tokens, groups, inputs // groups).swapaxes(0, 1)
    w_JGO = w_IO.reshape(groups, inputs // groups, -1).astype(x_TI.dtype)
    y_JTO = jnp.matmul(x_JTG, w_JGO, preferred_element_type=jnp.float32)
    if zero_JO is not None:
        y_JTO -= x_JTG.astype(jnp.float32).sum(axis=2)[..., None] * zero_JO[:, None].astype(jnp.float32)
    return (y_JTO * scale_JO[:, None]).sum(axis=0).astype(x_TI.dtype)


def product_in_fp8(x_TI: jax.Array, w_IO: jax.Array, scale_JO: jax.Array | None = None, zero_JO: jax.Array | None = None) -> jax.Array:
    """`product` in 8 bits by a w of FP8 with one scale of each output: x is rounded to FP8, too, by a scale that makes each token's largest
    number the largest there is. By any other w, it is `product`."""
    if scale_JO is None or len(scale_JO) > 1 or w_IO.dtype != fp8.FP8:
        return product(x_TI, w_IO, scale_JO, zero_JO)
    wide_TI = x_TI.astype(jnp.float32)
    largest_T1 = jnp.abs(wide_TI).max(axis=1, keepdims=True)
    scale_T1 = jnp.where(largest_T1 > 0, largest_T1 / fp8.MOST, 1.0)
    summed = jnp.bfloat16 if x_TI.dtype == jnp.bfloat16 else jnp.float32  # what cuBLASLt writes; float16 would not hold it
    y_TO = jnp.matmul((wide_TI / scale_T1).astype(fp8.FP8), w_IO, preferred_element_type=summed)
    return (y_TO.astype(jnp.float32) * scale_T1 * scale_JO).astype(x_TI.dtype)


def widened(w_IO: jax.Array, scale_JO: jax.Array, zero_JO: jax.Array | None, dtype: DTypeLike) -> jax.Array:
    """What numbers stand for, [I, O], or [..., I, O] of several matrices; see `product`."""
    w_JGO = w_IO.reshape(*scale_JO.shape[:-1], -1, w_IO.shape[-1]).astype(jnp.float32)
    w_JGO = w_JGO if zero_JO is None else w_JGO - zero_JO[..., None, :].astype(jnp.float32)
    return (w_JGO * scale_JO[..., None, :]).astype(dtype).reshape(w_IO.shape)


def whole_groups(count: Any) -> Any:
    """Rounded up to ROW_GRAIN: a number, or an array."""
    return -(-count // ROW_GRAIN) * ROW_GRAIN


def first_rows(count_X: jax.Array) -> jax.Array:
    """[X] where the rows of each of several matrices begin, of which each has so many; int32."""
    whole_X = whole_groups(count_X)
    return jnp.cumsum(whole_X) - whole_X


def grouped_product(
    x_PI: jax.Array,
    w_LXIO: jax.Array,
    layer: jax.Array,
    count_X: jax.Array,
    scale_LXJO: jax.Array | None = None,
    zero_LXJO: jax.Array | None = None,
) -> jax.Array:
    """x times a layer's matrices, [P, O]: count_X[0] rows by the first, count_X[1] by the second and so on, which begin at `first_rows`.
    What stands in other places may be anything. Matrices without a row are not read.

    Args:
      layer: int32 scalar, an array so that one kernel serves all layers.
      scale_LXJO, zero_LXJO: of quantised matrices, as of `product`.
    """
    places, begin_X = len(x_PI), first_rows(count_X)
    at_once = min(places, _ROWS_AT_ONCE)

    def with_rows_of(matrix, y_PO):
        begin, w_IO = begin_X[matrix], w_LXIO[layer, matrix]
        scales = [None if each is None else each[layer, matrix] for each in (scale_LXJO, zero_LXJO)]
        end = begin + count_X[matrix]

        def with_next_rows(i, y_PO):
            first = jnp.minimum(begin + i * at_once, places - at_once)
            row = first + jnp.arange(at_once)
            own_P1 = ((row >= begin) & (row < end))[:, None]
            before_PO, x = (jax.lax.dynamic_slice_in_dim(array, first, at_once) for array in (y_PO, x_PI))
            return jax.lax.dynamic_update_slice_in_dim(y_PO, jnp.where(own_P1, product(x, w_IO, *scales), before_PO), first, 0)

        return jax.lax.fori_loop(0, (count_X[matrix] + at_once - 1) // at_once, with_next_rows, y_PO)

    return jax.lax.fori_loop(0, len(count_X), with_rows_of, jnp.zeros((places, w_LXIO.shape[3]), x_PI.dtype))


def lora(x_TI: jax.Array, a_JZWI: jax.Array, b: tuple[jax.Array, ...], place_T: jax.Array) -> jax.Array:
    """[T, O], what each token's adapter adds to x times J matrices side by side: (x A) B.

    Every token is multiplied by the A of all adapters and keeps what is its own's, so that both are plain products, which read each
    adapter once.

    Args:
      b: [Z, W, O of one matrix] for each of J.
      place_T: of each token's adapter; below 0 for none.
    """
    tokens, (sides, places, rank, inputs) = len(x_TI), a_JZWI.shape
    own_TZ = place_T[:, None] == jnp.arange(places)
    h_TJZW = (x_TI @ a_JZWI.reshape(-1, inputs).T).reshape(tokens, sides, places, rank)
    h_TJZW = jnp.where(own_TZ[:, None, :, None], h_TJZW, 0)
    added = [h_TJZW[:, side].reshape(tokens, -1) @ b_ZWO.reshape(places * rank, -1) for side, b_ZWO in enumerate(b)]
    return jnp.concatenate(added, axis=-1)


def write(pool_N2PD: jax.Array, k_TKD: jax.Array, v_TKD: jax.Array, places_T: Places, position_T: jax.Array) -> jax.Array:
    """The pool with K and V of T tokens at their positions; padding is dropped."""
    blocks, tokens_per_block = len(pool_N2PD), _tokens_per_block(pool_N2PD, k_TKD.shape[-1])
    column_T, offset_T = position_T // tokens_per_block, position_T % tokens_per_block
    id_TK = jnp.take_along_axis(places_T.rows(), column_T[:, None, None], axis=2)[:, :, 0]
    id_TK = jnp.where((places_T.slot_B < places_T.table_LSKC.shape[1])[:, None], id_TK, blocks)
    if _is_latent(pool_N2PD):
        place_TD = offset_T[:, None] * k_TKD.shape[-1] + jnp.arange(k_TKD.shape[-1])
        return pool_N2PD.at[id_TK, place_TD].set(k_TKD[:, 0].astype(pool_N2PD.dtype), mode="drop")
    kv_TK2D = jnp.stack([k_TKD, v_TKD], axis=2).astype(pool_N2PD.dtype)
    return pool_N2PD.at[id_TK[:, :, None], jnp.arange(2), offset_T[:, None, None]].set(kv_TK2D, mode="drop")


def decode(
    q_BHD: jax.Array,
    pool_N2PD: jax.Array,
    places: Places,
    length_B: jax.Array,
    *,
    window: int | None = None,
    scale: float | None = None,
    soft_cap: float | None = None,
    sink_H: jax.Array | None = None,
) -> jax.Array:
    """Attention of each row's last token, at position length - 1, over the row's `length` tokens; zero where length is 0.

    Args:
      window: only the last so many tokens are seen; None for all.
      scale: multiplies the products of queries and keys; None for D ** -0.5.
      soft_cap: scores are bent to stay within plus and minus this, by tanh; None for as they are.
      sink_H: each head's score of a token that is none, and has no value; None without.
    Returns:
      [B, H, D]
    """
    q_B1HD = q_BHD[:, None]
    k_BKSD, v_BKSD = _context(pool_N2PD, places.rows(), q_BHD.shape[-1])
    attend = functools.partial(_attend, window=window, scale=scale, soft_cap=soft_cap, sink_H=sink_H)
    return jax.vmap(attend)(q_B1HD, k_BKSD, v_BKSD, length_B[:, None] - 1)[:, 0]


def prefill(
    q_THD: jax.Array,
    pool_N2PD: jax.Array,
    places: Places,
    offset_B: jax.Array,
    count_B: jax.Array,
    length_B: jax.Array,
    *,
    window: int | None = None,
    scale: float | None = None,
    soft_cap: float | None = None,
    sink_H: jax.Array | None = None,
) -> jax.Array:
    """Causal attention of packed new tokens over each row's context, of which they are the last; zero for padding.

    Args:
      q_THD: T is a multiple of ROW_GRAIN.
      offset_B: where in T a row's tokens begin, a multiple of ROW_GRAIN; count_B: how many they are; 0 for a padding row.
      length_B: the row's tokens in the pool, the new ones included.
    Returns:
      [T, H, D]
    """
    context = places.table_LSKC.shape[3] * _tokens_per_block(pool_N2PD, q_THD.shape[-1])
    table_BKC = places.rows()
    group_GQHD = q_THD.reshape(-1, ROW_GRAIN, *q_THD.shape[1:])
    index_G = jnp.arange(group_GQHD.shape[0]) * ROW_GRAIN
    of_GB = (index_G[:, None] >= offset_B) & (index_G[:, None] < offset_B + count_B)

    def attend_group(group):
        q_QHD, first, of_B = group
        row = of_B.argmax()
        index_Q = first - offset_B[row] + jnp.arange(ROW_GRAIN)
        position_Q = jnp.where(of_B.any() & (index_Q < count_B[row]), length_B[row] - count_B[row] + index_Q, -1)
        k_1KSD, v_1KSD = _context(pool_N2PD, table_BKC[row][None], q_THD.shape[-1])
        return _attend(q_QHD, k_1KSD[0], v_1KSD[0], position_Q, window=window, scale=scale, soft_cap=soft_cap, sink_H=sink_H)

    at_once = max(1, _AT_ONCE_ELEMENTS // (places.kv_heads * context * q_THD.shape[2]))
    return jax.lax.map(attend_group, (group_GQHD, index_G, of_GB), batch_size=at_once).reshape(q_THD.shape)


def _is_latent(pool_N2PD: jax.Array) -> bool:
    return pool_N2PD.ndim == 2


def _tokens_per_block(pool_N2PD: jax.Array, head_dim: int) -> int:
    """P."""
    return pool_N2PD.shape[1] // head_dim if _is_latent(pool_N2PD) else pool_N2PD.shape[2]


def _context(pool_N2PD: jax.Array, table_BKC: jax.Array, head_dim: int) -> tuple[jax.Array, jax.Array]:
    """K and V of all columns in order, [B, K, S, D] each, S = C x P."""
    rows, kv_heads, _ = table_BKC.shape
    if _is_latent(pool_N2PD):
        used = _tokens_per_block(pool_N2PD, head_dim) * head_dim
        kv = pool_N2PD[table_BKC][..., :used].reshape(rows, kv_heads, -1, head_dim)
        return kv, kv
    kv_BKC2PD = pool_N2PD[table_BKC]
    if pool_N2PD.shape[-1] < head_dim:
        kv_BKC2PD = fp8.unpack(kv_BKC2PD)
    k, v = kv_BKC2PD[..., 0, :, :], kv_BKC2PD[..., 1, :, :]
    shape = (rows, kv_heads, -1, head_dim)
    return k.reshape(shape), v.reshape(shape)


def _attend(
    q_THD: jax.Array,
    k_KSD: jax.Array,
    v_KSD: jax.Array,
    position_T: jax.Array,
    *,
    window: int | None,
    scale: float | None,
    soft_cap: float | None,
    sink_H: jax.Array | None,
) -> jax.Array:
    """Queries at `position_T` over keys at 0 .. S-1; a query at -1 sees nothing and is zero.

    What is not seen is cleared before it is multiplied: a block may hold another model's NaN.
    """
    kv_heads, context, head_dim = k_KSD.shape
    age_TS = position_T[:, None] - jnp.arange(context)
    seen_TS = (age_TS >= 0) & (age_TS < (context if window is None else window))
    v_KSD = jnp.where(seen_TS.any(axis=0)[:, None], v_KSD, 0)
    q_TKGD = q_THD.reshape(q_THD.shape[0], kv_heads, -1, head_dim)
    scores_KGTS = jnp.einsum("TKGD,KSD->KGTS", q_TKGD, k_KSD.astype(q_THD.dtype), preferred_element_type=jnp.float32)
    scores_KGTS *= head_dim**-0.5 if scale is None else scale
    if soft_cap is not None:
        scores_KGTS = soft_cap * jnp.tanh(scores_KGTS / soft_cap)
    scores_KGTS = jnp.where(seen_TS, scores_KGTS, -jnp.inf)
    sink = jnp.finfo(jnp.float32).min if sink_H is None else sink_H.astype(jnp.float32).reshape(kv_heads, -1, 1, 1)
    top_KGT1 = jnp.maximum(scores_KGTS.max(axis=-1, keepdims=True), sink)
    weights_KGTS = jnp.exp(scores_KGTS - top_KGT1)
    total_KGT1 = weights_KGTS.sum(axis=-1, keepdims=True) + (0.0 if sink_H is None else jnp.exp(sink - top_KGT1))
    total_KGT1 = jnp.maximum(total_KGT1, jnp.finfo(jnp.float32).tiny)
    weights_KGTS = (weights_KGTS / total_KGT1).astype(q_THD.dtype)
    return jnp.einsum("KGTS,KSD->TKGD", weights_KGTS, v_KSD.astype(q_THD.dtype)).reshape(q_THD.shape)
