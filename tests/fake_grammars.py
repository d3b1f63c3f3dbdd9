"""Grammars in a line: the tokens that may come at each place."""

import numpy as np

from muxjax.types import Bits, Grammar
from tests.fake_device import VOCAB

BREAKS_AT_MASK, BREAKS_AT_TOKEN = "mask", "token"


class FakeGrammars:
    """Compiles texts such as "3,4 5 mask 7": at each place the tokens that may come, or what of the matcher breaks there.

    Args:
      eos_ids: what may come behind the last place.
    """

    def __init__(self, eos_ids: tuple[int, ...] = ()):
        self.eos_ids = eos_ids

    def matcher(self, grammar: Grammar) -> "FakeMatcher":
        return FakeMatcher(grammar.text.split(), self.eos_ids)


class FakeMatcher:
    def __init__(self, places: list[str], eos_ids: tuple[int, ...]):
        self._places, self._eos_ids = places, eos_ids

    @property
    def is_complete(self) -> bool:
        return not self._places

    def bits(self) -> Bits:
        if self._places and self._places[0] == BREAKS_AT_MASK:
            raise IndexError("a grammar that breaks")
        mask = np.zeros(32 * (VOCAB // 32 + 1), np.uint8)
        mask[self._next] = 1
        return np.packbits(mask, bitorder="little").view(np.uint32)

    def take(self, token: int) -> None:
        if self._places and self._places[0] == BREAKS_AT_TOKEN:
            raise KeyError("a grammar that breaks")
        assert token in self._next
        self._places = self._places[1:]

    @property
    def _next(self) -> list[int]:
        if not self._places:
            return list(self._eos_ids)
        return list(range(VOCAB)) if self._places[0] == BREAKS_AT_TOKEN else [int(token) for token in self._places[0].split(",")]
