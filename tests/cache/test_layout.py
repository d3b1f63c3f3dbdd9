"""Bytes and tokens of head blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.cache.layout import CacheLayout
from muxjax.errors import ConfigError


@pytest.mark.parametrize(("head_dim", "element_bytes", "tokens"), [(128, 2, 32), (64, 2, 64), (256, 2, 16), (128, 4, 16), (128, 1, 64)])
def test_a_16_kib_block_holds_k_and_v_of_so_many_tokens(head_dim, element_bytes, tokens):
    layout = CacheLayout(windows=(None,), kv_heads=1, head_dim=head_dim, element_bytes=element_bytes)
    assert layout.tokens_per_block == tokens


def test_llama_8b_takes_256_blocks_for_32_tokens():
    layout = CacheLayout(windows=(None,) * 32, kv_heads=8, head_dim=128, element_bytes=2)
    assert (layout.blocks(1), layout.blocks(32), layout.blocks(33)) == (256, 256, 512)


def test_a_head_size_that_does_not_fill_a_block_is_refused():
    with pytest.raises(ConfigError, match="head_dim 80 does not fill a head block of 16384 bytes"):
        CacheLayout(windows=(None,), kv_heads=1, head_dim=80, element_bytes=2)


def test_latents_are_k_alone_and_leave_the_rest_of_a_block():
    layout = CacheLayout(windows=(None,) * 27, kv_heads=1, head_dim=576, element_bytes=2, is_latent=True)
    assert (layout.tokens_per_block, layout.token_bytes, layout.blocks(15)) == (14, 1152, 54)
    with pytest.raises(ConfigError, match="a head block of 1024 bytes has no room for a latent, which takes 1152"):
        CacheLayout(windows=(None,), kv_heads=1, head_dim=576, element_bytes=2, is_latent=True, block_bytes=1024)


@given(st.integers(1, 10_000), st.integers(0, 6))
def test_columns_hold_the_tokens_and_one_column_less_would_not(tokens, power):
    layout = CacheLayout(windows=(None, 7), kv_heads=3, head_dim=2**power, element_bytes=4, block_bytes=1024)
    assert (layout.columns(tokens) - 1) * layout.tokens_per_block < tokens <= layout.columns(tokens) * layout.tokens_per_block
