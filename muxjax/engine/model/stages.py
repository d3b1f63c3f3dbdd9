"""A model's unfinished sequences by how far they have come."""

from muxjax.engine.model.sequence import ByAge, Sequence, Stage
from muxjax.engine.model.waiting import Waiting


class Stages:
    """Those that wait, those that prefill and those that decode; the latter two are the running ones."""

    def __init__(self):
        self.waiting, self.prefilling, self.decoding = Waiting(), ByAge(), ByAge()
        self._groups = {Stage.WAITING: self.waiting, Stage.PREFILLING: self.prefilling, Stage.DECODING: self.decoding}

    def __bool__(self) -> bool:
        return bool(self.decoding or self.prefilling or self.waiting)

    @property
    def running(self) -> int:
        """Sequences that have slots and blocks, and have not ended."""
        return len(self.prefilling) + len(self.decoding)

    @property
    def oldest_s(self) -> float:
        """When the oldest sequence was due, infinity of none."""
        return min(self.waiting.oldest_s, self.prefilling.oldest_s, self.decoding.oldest_s)

    @property
    def youngest(self) -> Sequence | None:
        """The youngest running sequence."""
        last = [group[-1] for group in (self.prefilling, self.decoding) if group]
        return max(last, key=lambda sequence: sequence.age, default=None)

    def move(self, sequence: Sequence, stage: Stage) -> None:
        """The sequence leaves the group it is in, and joins that of another stage."""
        if sequence.stage in self._groups:
            self._groups[sequence.stage].remove(sequence)
        if stage in self._groups:
            self._groups[stage].add(sequence)
        sequence.stage = stage
