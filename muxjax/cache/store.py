"""The device side of the shared cache: one array of head blocks, read and written by every model of a unit."""

import functools
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.cache.layout import CacheLayout
from muxjax.pallas.kernels import REFERENCE, Kernels
from muxjax.types import Phase


def make_blocks(total: int, *, block_bytes: int, dtype: np.dtype, device: jax.Device) -> jax.Array:
    """The arena's memory, [N, block elements], zeroed."""
    return jnp.zeros((total, block_bytes // dtype.itemsize), dtype, device=device)


def blocks_shape(total: int, block_bytes: int, dtype: np.dtype, device: jax.Device) -> jax.ShapeDtypeStruct:
    """What `make_blocks` would make there."""
    return jax.ShapeDtypeStruct((total, block_bytes // dtype.itemsize), dtype, sharding=jax.sharding.SingleDeviceSharding(device))


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("blocks_NE", "table_LBKC", "row_T", "position_T", "offset_B", "count_B", "length_B"),
    meta_fields=("layout", "phase", "kernels"),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class PagedMemory:
    """Keys and values of a batch's sequences, in head blocks.

    Args:
      blocks_NE: the arena, shared with other models, N blocks of E elements.
      row_T, position_T: whose token, and where in its sequence; row B or more for padding.
      offset_B, count_B: where in T a row's new tokens begin, and how many they are.
      length_B: tokens of the row in the cache, the new ones included; 0 for a padding row.
      phase: DECODE promises one token a row, T = B, in the order of the rows, padding rows last.
      kernels: the implementation that suits the device.
    """

    blocks_NE: jax.Array
    table_LBKC: jax.Array
    row_T: jax.Array
    position_T: jax.Array
    offset_B: jax.Array
    count_B: jax.Array
    length_B: jax.Array
    layout: CacheLayout
    phase: Phase
    kernels: Kernels = REFERENCE

    def attend(self, layer: int, q_THD: jax.Array, k_TKD: jax.Array, v_TKD: jax.Array) -> tuple[jax.Array, "PagedMemory"]:
        """Writes k and v into the layer's blocks, then attends over all the rows hold; see `models.attention.Memory`.

        Only finite numbers enter the arena: kernels multiply what a row does not see by zero, and it may be another model's.
        """
        table_BKC, window = self.table_LBKC[layer], self.layout.windows[layer]
        pool_N2PD = self.blocks_NE.reshape(-1, 2, self.layout.tokens_per_block, self.layout.head_dim)
        pool_N2PD = self.kernels.write(pool_N2PD, _finite(k_TKD), _finite(v_TKD), table_BKC, self.row_T, self.position_T)
        if self.phase is Phase.DECODE:
            out_THD = self.kernels.decode(q_THD, pool_N2PD, table_BKC, self.length_B, window=window)
        else:
            out_THD = self.kernels.prefill(q_THD, pool_N2PD, table_BKC, self.offset_B, self.count_B, self.length_B, window=window)
        return out_THD, replace(self, blocks_NE=pool_N2PD.reshape(self.blocks_NE.shape))


def _finite(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(x), x, 0)
