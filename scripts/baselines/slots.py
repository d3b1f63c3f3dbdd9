"""Who has which row of a static cache, and until which step: the host's side of it, which nothing but numpy needs.

How long answers are is known beforehand, so that rows are given on without the host having seen a token; one that ends sooner is
found when it is read, and what was made of it since is thrown away.
"""

import heapq
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scripts.baselines.engine import Request


@dataclass(eq=False, slots=True)
class Row:
    """A request that has a row.

    Args:
      last_step: the step that makes its last token.
      ended: it makes no more tokens.
    """

    request: Request
    slot: int
    last_step: int
    ended: bool = False


class Slots:
    """The rows of a cache.

    Attributes:
      plan: [2, rows] int32: the tokens that each row holds, and whether its next step adds one.
      changed: whether `plan` is other than steps alone would have made it; whoever has taken it to the device sets it back.
      steps: decode steps so far.
    """

    def __init__(self, rows: int):
        self.plan, self.changed, self.steps = np.zeros((2, rows), np.int32), False, 0
        self._free = list(range(rows))
        self._held: dict[int, Row] = {}
        self._ending: defaultdict[int, list[Row]] = defaultdict(list)
        self._seats: tuple[tuple[Row, int], ...] | None = None

    @property
    def free(self) -> int:
        """Rows that nobody has."""
        return len(self._free)

    @property
    def seats(self) -> tuple[tuple[Row, int], ...]:
        """All that have a row, and which; the same tuple until that changes."""
        if self._seats is None:
            self._seats = tuple((row, slot) for slot, row in self._held.items())
        return self._seats

    @property
    def span(self) -> int:
        """Rows from the first to the last that somebody has."""
        return max(self._held, default=-1) + 1

    @property
    def most_tokens(self) -> int:
        """Of a row, after the next step."""
        return int(self.plan[0].max()) + 1

    def admit(self, request: Request) -> Row:
        """The first free row is the request's, whose prompt's prefill makes the first token."""
        row = Row(request, heapq.heappop(self._free), self.steps + request.max_tokens - 1)
        self._held[row.slot] = row
        self._ending[row.last_step].append(row)
        self.plan[:, row.slot] = len(request.prompt), 1
        self._touch()
        return row

    def advance(self) -> None:
        """A step has been launched, of all rows."""
        self.plan[0] += self.plan[1]
        self.steps += 1

    def pop_ending(self) -> frozenset[Row]:
        """Those whose last token has been launched; their rows are free."""
        ending = frozenset(row for row in self._ending.pop(self.steps, ()) if not row.ended)
        for row in ending:
            self.release(row)
        return ending

    def release(self, row: Row) -> None:
        """Its row is free; nothing if it has been."""
        if self._held.get(row.slot) is row:
            del self._held[row.slot]
            heapq.heappush(self._free, row.slot)
            self.plan[:, row.slot] = 0
            self._touch()

    def row_of(self, request: Request) -> Row | None:
        """None where it has no row."""
        return next((row for row in self._held.values() if row.request is request), None)

    def closer(self, sizes: Sequence[int]) -> tuple[int, int, int] | None:
        """A move of the last row to the first hole, if steps could have a smaller of these ascending sizes for it: slots, and tokens."""
        if not self._held or bisect_left(sizes, self.span) <= bisect_left(sizes, len(self._held)):
            return None
        source, target = self.span - 1, heapq.heappop(self._free)
        row = self._held.pop(source)
        row.slot, self._held[target] = target, row
        heapq.heappush(self._free, source)
        self.plan[:, target], self.plan[:, source] = self.plan[:, source], 0
        self._touch()
        return source, target, int(self.plan[0, target])

    def _touch(self) -> None:
        self.changed, self._seats = True, None
