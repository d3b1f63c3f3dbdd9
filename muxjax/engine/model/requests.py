"""A model's requests as a policy sees them: those still to prefill, and the youngest that runs."""

from muxjax.cache.table import Tables
from muxjax.engine.model.adapters import admissible
from muxjax.engine.model.prefixes import Prefixes
from muxjax.engine.model.sequence import Sequence, Stage
from muxjax.engine.model.slots import Slots
from muxjax.engine.model.stages import Stages
from muxjax.scheduler.view import Pending, Running

LOOKED_AT = 8
"""So many times as many requests as may begin are looked at for some that wait for no place of an adapter."""


class Requests:
    """One model's requests as a view has them."""

    def __init__(self, stages: Stages, tables: Tables, slots: Slots, prefixes: Prefixes, *, max_loras: int):
        self._stages, self._tables, self._slots, self._prefixes, self._max_loras = stages, tables, slots, prefixes, max_loras

    def pending(self, most: int) -> tuple[Pending, ...]:
        """The first requests with tokens still to prefill: admitted ones, then those that wait for no place of an adapter."""
        stages = self._stages
        if not stages.prefilling and not stages.waiting:
            return ()
        admitted = stages.prefilling.first(most)
        return tuple([self._pending(sequence) for sequence in admitted + self._next(most - len(admitted))])

    def youngest(self) -> Running | None:
        """The youngest admitted request."""
        sequence = self._stages.youngest
        if sequence is None:
            return None
        return Running(
            request_id=sequence.request.id,
            arrival_s=sequence.request.due_s,
            blocks=self._tables.blocks(sequence.slot),
            idle=not self._slots.flights[sequence.slot],
        )

    def _next(self, most: int) -> list[Sequence]:
        """The first that wait and may be admitted."""
        if not self._max_loras:
            return self._stages.waiting.first(most)
        beside = set(self._slots.adapters.values())
        return admissible(self._stages.waiting.first(LOOKED_AT * most), beside, self._max_loras)[:most]

    def _pending(self, sequence: Sequence) -> Pending:
        request, layout = sequence.request, self._tables.layout
        if sequence.stage is not Stage.WAITING:
            left = int(self._slots.text.known[sequence.slot] - self._tables.lengths[sequence.slot])
            return Pending(request_id=request.id, arrival_s=request.due_s, tokens=left, blocks=0)
        tokens, cached = len(sequence.tokens), self._prefixes.count_cached(sequence)
        return Pending(
            request_id=request.id,
            arrival_s=request.due_s,
            tokens=tokens - cached * layout.tokens_per_block,
            blocks=layout.blocks(tokens) - self._prefixes.count_shared(sequence, cached) * layout.column_blocks,
        )
