"""Block tables of a few rows, set among other slots and layers."""

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.pallas.reference import Places

LAYERS, LAYER = 3, 1


def placed(table_BKC: jax.Array) -> Places:
    """The rows' tables in slots of another order, in the middle one of three layers; all else names block 0."""
    rows = len(table_BKC)
    slot_B = np.random.default_rng(5).permutation(rows + 2)[:rows]
    table_LSKC = jnp.zeros((LAYERS, rows + 2, *table_BKC.shape[1:]), jnp.int32).at[LAYER, slot_B].set(table_BKC)
    return Places(table_LSKC, jnp.int32(LAYER), jnp.asarray(slot_B, jnp.int32))


def placed_tokens(table_BKC: jax.Array, row_T: jax.Array) -> Places:
    """The same for tokens of those rows; tokens of row B or more are padding."""
    places = placed(table_BKC)
    slot_T = places.slot_B.at[row_T].get(mode="fill", fill_value=np.iinfo(np.int32).max)
    return places._replace(slot_B=slot_T)
