"""The device side of the shared cache: one array of head blocks, read and written by every model of a unit."""

import functools
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.cache.layout import CacheLayout
from muxjax.model_spec import ModelSpec
from muxjax.models.attention import Scoring
from muxjax.pallas import fp8
from muxjax.pallas.kernels import REFERENCE, Kernels, best
from muxjax.pallas.reference import Places


def kernels_of(spec: ModelSpec, *, device_kind: str, dtype: np.dtype) -> Kernels:
    """The fastest there are for a model on a device, by JAX's name of it, over an arena of that dtype."""
    return best(device_kind=device_kind, dtype=dtype, head_dim=spec.head_dim, sinks=spec.sinks, latent=spec.latent is not None)


def blocks_shape(total: int, block_bytes: int, dtype: np.dtype, device: jax.Device) -> jax.ShapeDtypeStruct:
    """The arena of a device, [N, block elements], without its memory."""
    return jax.ShapeDtypeStruct((total, block_bytes // dtype.itemsize), dtype, sharding=jax.sharding.SingleDeviceSharding(device))


@functools.partial(jax.tree_util.register_dataclass, data_fields=("slot_B", "length_B"), meta_fields=())
@dataclass(frozen=True, slots=True, kw_only=True)
class Decodes:
    """Rows of one new token each, the first of a batch: that of row i is the batch's token i.

    Args:
      slot_B: their places in the tables; length_B: their tokens in the cache, the new one included. Padding rows come last, of length 0,
        and the tokens in their places may be the chunks'.
    """

    slot_B: jax.Array
    length_B: jax.Array


@functools.partial(jax.tree_util.register_dataclass, data_fields=("slot_B", "offset_B", "count_B", "length_B"), meta_fields=())
@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """Rows of any number of new tokens, packed behind the decodes' tokens.

    Args:
      slot_B: their places in the tables.
      offset_B, count_B: where a row's tokens begin, a multiple of 8, and how many they are; 0 for a padding row.
      length_B: its tokens in the cache, the new ones included.
    """

    slot_B: jax.Array
    offset_B: jax.Array
    count_B: jax.Array
    length_B: jax.Array


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("blocks_NE", "table_LSKC", "slot_T", "position_T", "decodes", "chunks"),
    meta_fields=("layout", "kernels"),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class PagedMemory:
    """Keys and values of a batch's sequences, in head blocks.

    Args:
      blocks_NE: the arena, shared with other models, N blocks of E elements.
      table_LSKC: the model's block tables.
      slot_T, position_T: whose token, and where in its sequence; slot S or more for padding.
      decodes, chunks: the rows; either has none where its arrays are empty.
      kernels: the implementation that suits the device.
    """

    blocks_NE: jax.Array
    table_LSKC: jax.Array
    slot_T: jax.Array
    position_T: jax.Array
    decodes: Decodes
    chunks: Chunks
    layout: CacheLayout
    kernels: Kernels = REFERENCE

    @property
    def present_T(self) -> jax.Array:
        """[T] bool; see `models.attention.Memory`."""
        return self.slot_T < self.table_LSKC.shape[1]

    def attend(
        self,
        layer: jax.Array,
        scoring: Scoring,
        q_THD: jax.Array,
        k_TKD: jax.Array,
        v_TKD: jax.Array,
        sink_H: jax.Array | None = None,
    ) -> tuple[jax.Array, "PagedMemory"]:
        """Writes k and v into the layer's blocks, then attends over all the rows hold; see `models.attention.Memory`.

        Only finite numbers enter the arena: kernels multiply what a row does not see by zero, and it may be another model's. Packed FP8 is
        finite in bf16 and float32 too: a word whose exponent has all bits set would begin with FP8's NaN.
        """
        decodes, chunks = self.decodes, self.chunks
        pool_N2PD = self._pool
        k_TKD, v_TKD = self._kept(k_TKD), self._kept(v_TKD)
        pool_N2PD = self.kernels.write(pool_N2PD, k_TKD, v_TKD, self._places(layer, self.slot_T), self.position_T)
        most, out_THD = decodes.slot_B.size, q_THD
        how = scoring._asdict() | ({} if sink_H is None else {"sink_H": sink_H})
        if chunks.slot_B.size:
            places, rows = self._places(layer, chunks.slot_B), (chunks.offset_B, chunks.count_B, chunks.length_B)
            out_THD = self.kernels.prefill(q_THD, pool_N2PD, places, *rows, **how)
        if most:
            places = self._places(layer, decodes.slot_B)
            out_BHD = self.kernels.decode(q_THD[:most], pool_N2PD, places, decodes.length_B, **how)
            out_THD = self._joined(out_BHD, out_THD) if chunks.slot_B.size else out_BHD
        return out_THD, replace(self, blocks_NE=pool_N2PD.reshape(self.blocks_NE.shape))

    def _joined(self, out_BHD: jax.Array, out_THD: jax.Array) -> jax.Array:
        """The decodes' rows before the first chunk's, in one array."""
        most = len(out_BHD)
        alone_B = jnp.arange(most) < self.chunks.offset_B[0]
        return out_THD.at[:most].set(jnp.where(alone_B[:, None, None], out_BHD, out_THD[:most]))

    @property
    def _pool(self) -> jax.Array:
        """The arena as kernels take it: [N, 2, P, D], or as it is where a block has latents, which need not fill it."""
        if self.layout.is_latent:
            return self.blocks_NE
        return self.blocks_NE.reshape(-1, 2, self.layout.tokens_per_block, self._words)

    @property
    def _words(self) -> int:
        """Elements of the arena that hold K or V of one token in one head: as many as it has numbers, or fewer where they are FP8."""
        return self.layout.head_dim * self.layout.element_bytes // self.blocks_NE.dtype.itemsize

    def _kept(self, x_TKD: jax.Array) -> jax.Array:
        """K or V as the arena holds it."""
        x_TKD = jnp.where(jnp.isfinite(x_TKD), x_TKD, 0)
        return x_TKD if not self.layout.is_fp8 else fp8.pack(x_TKD, self.blocks_NE.dtype)

    def _places(self, layer: jax.Array, slot_B: jax.Array) -> Places:
        return Places(self.table_LSKC, layer, slot_B)
