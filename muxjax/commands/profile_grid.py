"""Grid of the steps that `muxjax profile` measures of each model and degree; apart from the command, whose imports take longer."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from muxjax.errors import require
from muxjax.types import Phase

MOST_BATCH = 256
MOST_TOKENS = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Steps of either phase, every count with every context; see `device.profile.Point`.

    Raises:
      ConfigError: a value outside its range.
    """

    decode_batch: tuple[int, ...] = (1, 8, 64, 256)
    decode_context: tuple[int, ...] = (128, 512, 2048, 8192)
    prefill_tokens: tuple[int, ...] = (128, 512, 2048)
    prefill_context: tuple[int, ...] = (128, 1024, 4096)

    def __post_init__(self):
        for field, most in (("decode_batch", MOST_BATCH), *((field.name, MOST_TOKENS) for field in fields(self)[1:])):
            for value in getattr(self, field):
                require(1 <= value <= most, field, value, f"1 to {most}")

    def points(self) -> Iterator[tuple[Phase, int, int]]:
        """Phase, count and context of each."""
        yield from ((Phase.DECODE, count, context) for count in self.decode_batch for context in self.decode_context)
        yield from ((Phase.PREFILL, count, context) for count in self.prefill_tokens for context in self.prefill_context)
