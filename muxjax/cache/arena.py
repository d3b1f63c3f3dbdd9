"""Ownership of head blocks: every id is free, or owned once."""

import numpy as np

from muxjax.types import Ints


class Arena:
    """Hands out ids 0 .. total-1. Who owns what is the owner's business; that nobody owns twice is the arena's."""

    def __init__(self, total: int):
        self.total = total
        self._stack = np.arange(total - 1, -1, -1, dtype=np.int32)
        self._owned = np.zeros(total, dtype=bool)
        self._seen_at = np.zeros(total, dtype=np.int32)  # scratch of `give`
        self._free = total

    @property
    def free(self) -> int:
        return self._free

    def resize(self, total: int) -> None:
        """Ids 0 .. total-1 from now on; every id is free."""
        if self._free != self.total:
            raise ValueError(f"{self.total - self._free} head blocks are owned, and the arena gets another size")
        self.__init__(total)

    def take(self, count: int) -> Ints:
        """[count] int32 ids, now owned by the caller, who has checked `free`."""
        if count > self._free:
            raise ValueError(f"{count} head blocks wanted, {self._free} of {self.total} free")
        self._free -= count
        ids = self._stack[self._free : self._free + count].copy()
        self._owned[ids] = True
        return ids

    def give(self, ids: Ints) -> None:
        """Frees ids that `take` returned, each once."""
        if not self._owned[ids].all():
            raise ValueError("a head block is given back that nobody owns")
        places = np.arange(len(ids), dtype=np.int32)
        self._seen_at[ids] = places  # of an id that is there twice, only one place is kept
        if (self._seen_at[ids] != places).any():
            raise ValueError("a head block is given back twice at once")
        self._owned[ids] = False
        self._stack[self._free : self._free + len(ids)] = ids
        self._free += len(ids)
