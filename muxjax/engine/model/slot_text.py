"""The tokens of all sequences in slots, as arrays: a decode step adds one to hundreds of them at once."""

import numpy as np

from muxjax.types import Bools, Ints

_NO_STOP = -1


class SlotText:
    """Tokens by slot, prompt first.

    tokens [slots, most] int32; known: how many of them; limit: with how many the sequence ends; open: it has not ended.
    """

    def __init__(self, slots: int, max_tokens: int):
        self.tokens = np.zeros((slots, max_tokens), np.int32)
        self.known = np.zeros(slots, np.int32)
        self.limit = np.zeros(slots, np.int32)
        self.open = np.zeros(slots, bool)
        self._stops = np.full((slots, 0), _NO_STOP, np.int32)  # wider when a request has more of them

    def begin(self, slot: int, tokens: Ints, *, stops: Ints, limit: int) -> None:
        """A sequence takes the slot, with the tokens it has, what stops it, and with how many it ends."""
        missing = len(stops) - self._stops.shape[1]
        if missing > 0:
            self._stops = np.pad(self._stops, ((0, 0), (0, missing)), constant_values=_NO_STOP)
        self._stops[slot] = _NO_STOP
        self._stops[slot, : len(stops)] = stops
        self.tokens[slot, : len(tokens)] = tokens
        self.known[slot], self.limit[slot], self.open[slot] = len(tokens), limit, True

    def view(self, slot: int) -> Ints:
        """A slot's tokens, for as long as nothing changes."""
        return self.tokens[slot, : self.known[slot]]

    def of(self, slot: int) -> Ints:
        """A copy of a slot's tokens."""
        return self.view(slot).copy()

    def extend(self, slots: Ints, tokens: Ints) -> tuple[Bools, Bools]:
        """Adds a token to each of different slots; which ones it stops, and which are full with it, [B] bool each.

        A token below 0 is none, and adds nothing.
        """
        known = self.known[slots]
        self.tokens[slots, known] = tokens
        known += tokens >= 0
        self.known[slots] = known
        full = known == self.limit[slots]
        if not self._stops.shape[1]:
            return np.zeros_like(full), full
        return (self._stops[slots] == tokens[:, None]).any(axis=1), full
