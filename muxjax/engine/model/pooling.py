"""A prompt's pooled hidden state, put together as its chunks are computed."""

import numpy as np

from muxjax.types import Bools, Floats, Pooling


class PooledHidden:
    """Of one request, until its first output takes it.

    Args:
      tokens: of the prompt.
    """

    def __init__(self, pooling: Pooling, tokens: int):
        self.wants_all = pooling is Pooling.MEAN
        """All of the prompt's hidden states are wanted, not only the last."""
        self._tokens = tokens
        self._sum_M: Floats | None = None

    def wanted(self, start: int, count: int) -> Bools:
        """[count] whether the hidden states of a chunk that begins there are wanted."""
        return np.full(count, True) if self.wants_all else np.arange(start + 1, start + count + 1) == self._tokens

    def add(self, sum_M: Floats, start: int) -> None:
        """Takes in what is wanted of a chunk, summed; one from the beginning comes in place of all before, which was pre-empted."""
        if not self.wants_all or start == 0 or self._sum_M is None:
            self._sum_M = np.zeros_like(sum_M)
        self._sum_M = self._sum_M + sum_M

    def take(self) -> bytes | None:
        """[M] float32 as bytes, once."""
        sum_M, self._sum_M = self._sum_M, None
        if sum_M is None:
            return None
        return np.asarray(sum_M / self._tokens if self.wants_all else sum_M, "<f4").tobytes()
