"""The requests of a model that wait, in the order in which they are to be admitted."""

from collections.abc import Iterator
from math import inf

import numpy as np

from muxjax.engine.model.sequence import ByAge, Sequence
from muxjax.scheduler import fairness
from muxjax.types import Ints


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
        lines.sort(key=lambda line: line[0].age)
        heads = [line.first(count) for line in lines]
        costs = [[line.cost(sequence) for sequence in head] for line, head in zip(lines, heads, strict=True)]
        following = [iter(head) for head in heads]
        return [next(following[i]) for i in fairness.take_turns([line.served for line in lines], costs, count)]

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


class _Line(ByAge):
    """Requests that wait for each other and their counter, in priced tokens over the tenant's weight."""

    def __init__(self, index: int):
        super().__init__()
        self.index = index
        self.served = 0.0
        self.weight = 1.0

    def cost(self, sequence: Sequence) -> float:
        """Price of admitting it, over the tenant's weight."""
        return len(sequence.tokens) * fairness.PROMPT_PRICE / self.weight
