"""KV write into head blocks. Meaning: `reference.write`.

No kernel of ours: XLA writes in place, at eight bytes a store and in one launch, once it is promised that no two tokens share a
place. Without the promise it compares and swaps two bytes at a time.
"""

import jax
import jax.numpy as jnp

from muxjax.pallas.reference import Places


def write(pool_N2PD: jax.Array, k_TKD: jax.Array, v_TKD: jax.Array, places_T: Places, position_T: jax.Array) -> jax.Array:
    """See `reference.write`; no two tokens may have the same slot and position, no two slots a block that is written."""
    blocks, _, tokens_per_block, _ = pool_N2PD.shape
    tokens, kv_heads, _ = k_TKD.shape
    table_LSKC, layer, slot_T = places_T
    column_T, offset_T = position_T // tokens_per_block, position_T % tokens_per_block
    id_TK = table_LSKC.at[layer, slot_T, :, column_T].get(mode="clip")
    nowhere_TK = blocks + jnp.arange(tokens * kv_heads, dtype=id_TK.dtype).reshape(tokens, kv_heads)  # the promise covers padding
    id_TK = jnp.where((slot_T < table_LSKC.shape[1])[:, None], id_TK, nowhere_TK)
    kv_TK2D = jnp.stack([k_TKD, v_TKD], axis=2).astype(pool_N2PD.dtype)
    places = pool_N2PD.at[id_TK[:, :, None], jnp.arange(2), offset_T[:, None, None]]
    return places.set(kv_TK2D, mode="drop", unique_indices=True)
