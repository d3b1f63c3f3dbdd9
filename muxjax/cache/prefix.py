"""Names of the prefix cache: full columns by their tokens, computed once, shared by sequences that begin alike, kept while there is room.

A column that a sequence has in its tables is *used*. When its last user has gone it is *idle*: still found by its name, but its blocks
count as free, and go to whoever needs blocks. A sequence that uses a column uses all before it, and gives the last one up first;
so what is found of a chain is always its beginning, and idle columns go from the ends of chains.
"""

from dataclasses import dataclass
from hashlib import blake2b

from muxjax.types import Ints, Request

_NAME_BYTES = 16


class Chain:
    """Names of a sequence's full columns, in their order: digests of all tokens up to a column's end, behind whose they are."""

    __slots__ = ("_column_tokens", "_digest", "cached", "names", "shared")

    def __init__(self, owner: bytes, column_tokens: int):
        self.names: list[bytes] = []
        self.cached = self.shared = 0  # where `ModelBlocks` left off looking
        self._column_tokens = column_tokens
        self._digest = blake2b(owner, digest_size=_NAME_BYTES)

    @classmethod
    def of(cls, request: Request, column_tokens: int) -> "Chain":
        """Columns are shared by requests of one model, adapter, tenant and salt: who could find others' would learn what they asked."""
        return cls(repr((request.model, request.adapter, request.tenant, request.cache_salt)).encode(), column_tokens)

    def extend(self, tokens: Ints, columns: int) -> None:
        """Names as many columns of these tokens, int32; what is named already stays."""
        size, new = 4 * self._column_tokens, tokens[len(self.names) * self._column_tokens : columns * self._column_tokens].tobytes()
        for at in range(0, len(new), size):
            self._digest.update(new[at : at + size])
            self.names.append(self._digest.digest())


@dataclass(slots=True, eq=False)
class Column:
    """A full column that was computed.

    Args:
      ids: [L x K] int32, its head blocks; first: the first of them. A block is owned once, so `first` tells copies of a column apart.
      users: sequences that read these blocks.
      rank: of an idle one; the least goes first.
    """

    name: bytes
    ids: Ints
    first: int
    users: int = 1
    rank: tuple[float, int] = (0.0, 0)
