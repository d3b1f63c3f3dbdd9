"""The allocator of head blocks with eviction: free ones first, then those of the least valuable idle columns of any model."""

import math
from collections import OrderedDict
from itertools import islice, takewhile
from operator import attrgetter

import numpy as np

from muxjax.cache.arena import Arena
from muxjax.cache.prefix import Chain, Column
from muxjax.types import Ints

_LAST = (math.inf, 0)  # a rank behind all


class BlockPool:
    """Allocator of the arena's blocks for all models: whoever takes blocks gets those of the least valuable idle columns when none is free.

    The value of a column is what it would cost to compute again, a block, on top of the value of the last one that went. Among models of
    equal costs the least recently used one goes; one that is twice as dear stays twice as long. Within a model all columns cost the same,
    so each model has a queue, and only the heads are compared: O(models), whatever is kept.

    Source: GreedyDual-Size (Cao and Irani, Cost-Aware WWW Proxy Caching Algorithms, 1997).

    Args:
      share_frac: share of the arena, in [0, 1]: a model with more idle blocks than that loses its own first.
    """

    def __init__(self, arena: Arena, *, share_frac: float = 1.0):
        self.columns: dict[bytes, Column] = {}
        self.age = 0.0  # rank of the least valuable column when one went last
        self._arena, self._share_frac = arena, share_frac
        self._models: list[ModelBlocks] = []
        self._serial = 0

    @property
    def total(self) -> int:
        return self._arena.total

    def resize(self, total: int) -> None:
        """Another number of blocks, all free: nobody holds one, and nothing is kept."""
        assert not self.columns, "an arena that holds columns cannot be replaced"
        self._arena.resize(total)

    @property
    def free(self) -> int:
        """Head blocks that can be taken: free ones and idle ones."""
        return self._arena.free + sum([model.idle_blocks for model in self._models])

    def model_blocks(self, column_blocks: int, *, worth: float = 1.0, keeps: bool = True) -> "ModelBlocks":
        """A new model's. `worth`: what a block's tokens cost to compute, in a unit that all models share; the others: see `ModelBlocks`."""
        self._models.append(ModelBlocks(self, column_blocks, worth=worth, keeps=keeps))
        return self._models[-1]

    def remove(self, model: "ModelBlocks") -> None:
        """The model is gone, and holds nothing any more."""
        assert not model.held, "a model that holds head blocks cannot go"
        model.clear()
        self._models.remove(model)

    def take(self, count: int) -> Ints:
        """[count] int32 ids for a caller who has checked `free`."""
        missing = count - self._arena.free
        if missing <= 0 or count > self.free:
            return self._arena.take(count)
        free, evicted = self._arena.take(count - missing), self._evict(missing)
        self._arena.give(evicted[missing:])
        return np.concatenate([free, evicted[:missing]])  # those change hands without having been free

    def give(self, ids: Ints) -> None:
        """Frees ids that `take` returned."""
        self._arena.give(ids)

    def next_rank(self, worth: float) -> tuple[float, int]:
        """Rank of a column that nobody uses from now on."""
        self._serial += 1
        return self.age + worth, self._serial

    def _evict(self, blocks: int) -> Ints:
        """Ids of at least so many idle blocks, whose columns are no more."""
        victims: list[Column] = []
        while blocks > 0:
            holders = sorted([model for model in self._models if model.idle], key=attrgetter("head_rank"))
            self.age = holders[0].head_rank[0]
            share_blocks = self._share_frac * self.total
            too_rich = [model for model in holders if model.idle_blocks > share_blocks]
            loser, *others = too_rich or holders
            most = min(blocks, loser.idle_blocks - share_blocks) if too_rich else blocks
            columns = loser.evict(math.ceil(most / loser.column_blocks), others[0].head_rank if others else _LAST)
            blocks -= len(columns) * loser.column_blocks
            victims += columns
        return np.concatenate([column.ids for column in victims])


class ModelBlocks:
    """Head blocks of one model in the pool.

    Args:
      column_blocks: head blocks of one of its columns.
      keeps: columns are kept at all; not those of models whose windows pass them, for they have holes then.

    held: head blocks in its sequences' tables, each counted once; peak: the most they ever were; evicted: idle columns that have gone.
    """

    def __init__(self, pool: BlockPool, column_blocks: int, *, worth: float, keeps: bool):
        self.column_blocks, self.keeps = column_blocks, keeps
        self.held = self.peak = self.evicted = 0
        self.idle: OrderedDict[bytes, Column] = OrderedDict()  # the least valuable first
        self._pool, self._worth = pool, worth
        self._twins: dict[bytes, dict[int, Ints]] = {}  # further copies of used columns by their first block, each with one user

    @property
    def idle_blocks(self) -> int:
        return len(self.idle) * self.column_blocks

    @property
    def head_rank(self) -> tuple[float, int]:
        return next(iter(self.idle.values())).rank

    def take(self, count: int) -> Ints:
        """[count] int32 ids for a sequence's tables."""
        ids = self._pool.take(count)
        self._hold(count)
        return ids

    def give(self, ids: Ints) -> None:
        """They are in no table any more, and nothing of them is kept."""
        self._pool.give(ids)
        self.held -= len(ids)

    def count_cached(self, chain: Chain, most: int) -> int:
        """Number of the chain's first `most` columns that are here."""
        columns, names = self._pool.columns, chain.names
        count, most = min(chain.cached, most), min(most, len(names))
        while count and names[count - 1] not in columns:
            count -= 1
        while count < most and names[count] in columns:
            count += 1
        chain.cached = count
        return count

    def count_shared(self, chain: Chain, cached: int) -> int:
        """Number of its first `cached` columns, which are here, that are used: sharing them takes nothing from anybody."""
        columns, names = self._pool.columns, chain.names
        count = min(chain.shared, cached)
        while count and not columns[names[count - 1]].users:
            count -= 1
        while count < cached and columns[names[count]].users:
            count += 1
        chain.shared = count
        return count

    def use(self, chain: Chain, count: int) -> list[Column]:
        """The chain's first `count` columns, which are here, with a user more."""
        columns = [self._pool.columns[name] for name in chain.names[:count]]
        for column in columns:
            if not column.users:
                self._wake(column)
            column.users += 1
        return columns

    def keep(self, name: bytes, ids: Ints) -> Column:
        """Column that is found by that name from now on; `ids` [L x K] are of the one sequence that computed it."""
        first, column = int(ids[0]), self._pool.columns.get(name)
        if column is None:
            column = self._pool.columns[name] = Column(name, ids, first)
        elif column.users:
            self._twins.setdefault(name, {})[first] = ids
        else:
            self._wake(column)
            self.give(column.ids)
            column.ids, column.first, column.users = ids, first, 1
        return column

    def drop(self, columns: list[Column], firsts: list[int]) -> None:
        """A sequence that used these columns, in the copies that begin with those blocks, has gone. The last one is idle first."""
        unwanted: list[Ints] = []
        for column, first in zip(reversed(columns), reversed(firsts), strict=True):
            twins = self._twins.get(column.name)
            if first == column.first and column.users > 1:
                column.users -= 1
            elif twins:
                unwanted.append(self._without(column, first, twins))
            else:
                self._rest(column)
        if unwanted:
            self.give(np.concatenate(unwanted))

    def evict(self, most: int, limit: tuple[float, int] = _LAST) -> list[Column]:
        """Its least valuable idle columns, of ranks below `limit`, which are no more: their blocks are the caller's."""
        victims = list(takewhile(lambda column: column.rank < limit, islice(self.idle.values(), most)))
        for column in victims:
            del self.idle[column.name], self._pool.columns[column.name]
        self.evicted += len(victims)
        return victims

    def clear(self) -> None:
        """Evicts all its idle columns."""
        for column in self.evict(len(self.idle)):
            self._pool.give(column.ids)

    def close(self) -> None:
        """What the model has computed is not to be used again, nor what it will."""
        self.keeps = False
        self.clear()

    def _hold(self, blocks: int) -> None:
        self.held += blocks
        self.peak = max(self.peak, self.held)

    def _rest(self, column: Column) -> None:
        column.users = 0
        column.rank = self._pool.next_rank(self._worth)
        self.idle[column.name] = column
        self.held -= self.column_blocks
        if not self.keeps:
            self.clear()

    def _wake(self, column: Column) -> None:
        del self.idle[column.name]
        self._hold(self.column_blocks)

    def _without(self, column: Column, first: int, twins: dict[int, Ints]) -> Ints:
        """Ids of the copy that begins with that block, which nobody uses any more; another one is the column."""
        ids = twins.pop(first, None)
        if ids is None:
            ids, (column.first, column.ids) = column.ids, twins.popitem()
        if not twins:
            del self._twins[column.name]
        return ids
