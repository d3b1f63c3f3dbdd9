"""Which tokens of a batch are somebody's."""

import jax.numpy as jnp

from muxjax.cache.layout import CacheLayout
from muxjax.device.batch import BEYOND
from muxjax.device.paged_memory import Chunks, Decodes, PagedMemory
from tests.device.test_step import SPEC

LAYOUT = CacheLayout.of(SPEC, element_bytes=4, block_bytes=512)


def test_tokens_in_no_slot_are_padding():
    """Which experts do not compute."""
    none = jnp.zeros(0, jnp.int32)
    memory = PagedMemory(
        blocks_NE=jnp.zeros((4, 128)),
        table_LSKC=jnp.zeros((SPEC.layers, 3, SPEC.kv_heads, 2), jnp.int32),
        slot_T=jnp.array([2, 0, 3, BEYOND], jnp.int32),
        position_T=jnp.zeros(4, jnp.int32),
        decodes=Decodes(slot_B=none, length_B=none),
        chunks=Chunks(slot_B=none, offset_B=none, count_B=none, length_B=none),
        layout=LAYOUT,
    )
    assert memory.present_T.tolist() == [True, True, False, False]
