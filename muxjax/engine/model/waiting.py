"""The requests of a model that wait, in the order in which they are to be admitted."""

from collections.abc import Callable, Iterator
from itertools import chain
from math import inf

import numpy as np

from muxjax.engine.model.sequence import ByAge, Sequence
from muxjax.scheduler import fairness
from muxjax.types import Ints

LATE_TURN = 8
"""One in so many that are admitted from a line is the oldest of its late ones."""


class Waiting:
    """Lines of tenants, and of clients without a name, each in the order of age; they take turns by the service that they have had.

    They are few (a configuration names tenants, and `server/admission/lines` deals all others to some), and are never forgotten.
    """

    def __init__(self):
        self._lines: list[_Line] = []
        self._by_name: dict[str, _Line] = {}
        self._last_served = 0.0  # of the last line that waited

    def __len__(self) -> int:
        return sum(map(len, self._lines))

    def __iter__(self) -> Iterator[Sequence]:
        return (sequence for line in self._lines for sequence in line)

    @property
    def oldest_s(self) -> float:
        """When the oldest was due, infinity of none."""
        return min((line.oldest_s for line in self._lines), default=inf)

    @property
    def contested(self) -> bool:
        """There is more than one line, so that what each is served counts."""
        return len(self._lines) > 1

    def first(self, count: int) -> list[Sequence]:
        """The next `count` to admit."""
        lines = [line for line in self._lines if line]
        if len(lines) < 2:
            return lines[0].first(count) if lines else []
        lines.sort(key=lambda line: line.first(1)[0].age)
        heads = [line.first(count) for line in lines]
        costs = [[line.cost(sequence) for sequence in head] for line, head in zip(lines, heads, strict=True)]
        following = [iter(head) for head in heads]
        return [next(following[i]) for i in fairness.take_turns([line.served for line in lines], costs, count)]

    def give_up(self, until_s: Callable[[Sequence], float], now_s: float) -> float:
        """Puts those that can no longer be in time behind the others of their lines; returns when that befalls the next one.

        Args:
          until_s: when a request must be admitted to be in time.
        """
        return min([line.give_up(until_s, now_s) for line in self._lines], default=inf)

    def add(self, sequence: Sequence) -> None:
        line = self._line(sequence)
        if not line:
            others = [other.served for other in self._lines if other]
            line.served = fairness.lifted(line.served, others, self._last_served)
        line.add(sequence)

    def remove(self, sequence: Sequence) -> None:
        line = self._line(sequence)
        line.remove(sequence)
        self._last_served = line.served

    def payer(self, sequence: Sequence) -> int:
        """The number of its line, as `charge` takes it."""
        return self._line(sequence).index

    def charge(self, payers: Ints, tokens: np.ndarray) -> None:
        """Counts tokens, as they are priced, for the lines [len] of those numbers."""
        for line, total in zip(self._lines, np.bincount(payers, tokens, len(self._lines)).tolist(), strict=True):
            line.served += total / line.weight

    def _line(self, sequence: Sequence) -> "_Line":
        request = sequence.request
        if request.line not in self._by_name:
            self._by_name[request.line] = _Line(len(self._lines))
            self._lines.append(self._by_name[request.line])
        line = self._by_name[request.line]
        line.weight = request.weight
        return line


class _Line:
    """Requests that wait for each other and their counter, in priced tokens over the tenant's weight.

    The oldest are first, but those that are late already behind those that are not; one in LATE_TURN is of the late ones all the same,
    so that nobody waits for ever where it never gets quiet.
    """

    def __init__(self, index: int):
        self._timely, self._late = ByAge(), ByAge()
        self._left = 0  # so many, be it to be admitted or because they ended
        self.index = index
        self.served = 0.0
        self.weight = 1.0

    def __len__(self) -> int:
        return len(self._timely) + len(self._late)

    def __iter__(self) -> Iterator[Sequence]:
        return chain(self._timely, self._late)

    @property
    def oldest_s(self) -> float:
        """When the oldest was due, infinity of none."""
        return min(self._timely.oldest_s, self._late.oldest_s)

    def first(self, count: int) -> list[Sequence]:
        """The next `count` to admit."""
        if not self._late:
            return self._timely.first(count)
        timely, late = iter(self._timely.first(count)), iter(self._late.first(count))
        turns = ((late, timely) if (self._left + turn) % LATE_TURN == 0 else (timely, late) for turn in range(1, count + 1))
        order = (next(first, None) or next(second, None) for first, second in turns)
        return [sequence for sequence in order if sequence]

    def add(self, sequence: Sequence) -> None:
        self._timely.add(sequence)

    def remove(self, sequence: Sequence) -> None:
        (self._late if sequence in self._late else self._timely).remove(sequence)
        self._left += 1

    def give_up(self, until_s: Callable[[Sequence], float], now_s: float) -> float:
        """As of `Waiting`, but that one is looked at when all before it are late or gone."""
        while self._timely:
            first = self._timely[0]
            if first.has_begun or until_s(first) > now_s:
                return inf if first.has_begun else until_s(first)
            self._timely.remove(first)
            self._late.add(first)
        return inf

    def cost(self, sequence: Sequence) -> float:
        """Price of admitting it, over the tenant's weight."""
        return len(sequence.tokens) * fairness.PROMPT_PRICE / self.weight
