"""Layout of a model's KV in head blocks."""

from dataclasses import dataclass

from muxjax.errors import ConfigError
from muxjax.model_spec import ModelSpec

BLOCK_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLayout:
    """Head blocks of one model: K and V of one kv head of one layer for P tokens each, or latents, which are both, for as many whole
    tokens as have room.

    A *column* is the P tokens of a sequence that share a place in all of its tables: one block a layer and kv head.

    Args:
      windows: attention window of each layer in tokens, None for the whole context.
      element_bytes: of a number of K or V; 1 for FP8.
      is_latent: V is a part of K, and not held beside it.
    Raises:
      ConfigError: head_dim does not fill a block exactly, or has no room in it.
    """

    windows: tuple[int | None, ...]
    kv_heads: int
    head_dim: int
    element_bytes: int
    block_bytes: int = BLOCK_BYTES
    is_latent: bool = False

    def __post_init__(self):
        if self.is_latent:
            if self.block_bytes < self.token_bytes:
                said = f"a head block of {self.block_bytes} bytes has no room for a latent, which takes {self.token_bytes}"
                raise ConfigError(said, field="block_bytes")
        elif self.block_bytes % self.token_bytes:
            raise ConfigError(
                f"head_dim {self.head_dim} does not fill a head block of {self.block_bytes} bytes: "
                f"K and V of one token take {self.token_bytes} bytes, which must divide it",
                field="head_dim",
            )

    @classmethod
    def of(cls, spec: ModelSpec, *, element_bytes: int, block_bytes: int = BLOCK_BYTES) -> "CacheLayout":
        return cls(
            windows=spec.windows,
            kv_heads=spec.kv_heads,
            head_dim=spec.head_dim,
            element_bytes=element_bytes,
            block_bytes=block_bytes,
            is_latent=spec.latent is not None,
        )

    @property
    def token_bytes(self) -> int:
        """K and V of one token in one kv head of one layer."""
        return (1 if self.is_latent else 2) * self.head_dim * self.element_bytes

    @property
    def is_fp8(self) -> bool:
        """K and V are FP8, packed into the arena's words."""
        return self.element_bytes == 1

    @property
    def layers(self) -> int:
        return len(self.windows)

    @property
    def tokens_per_block(self) -> int:
        """P."""
        return self.block_bytes // self.token_bytes

    @property
    def column_blocks(self) -> int:
        """Blocks of one column: layers x kv heads."""
        return self.layers * self.kv_heads

    def forgets(self, tokens: int) -> bool:
        """Some window passes tokens of a sequence of so many."""
        return any(window is not None and window < tokens for window in self.windows)

    def columns(self, tokens: int) -> int:
        """C: columns that hold so many tokens."""
        return -(-tokens // self.tokens_per_block)

    def blocks(self, tokens: int) -> int:
        """Head blocks of a sequence of so many tokens before any window has passed."""
        return self.columns(tokens) * self.column_blocks
