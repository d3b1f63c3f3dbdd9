"""One model's sequences, slots and block tables inside a unit."""

from dataclasses import dataclass
from itertools import repeat

import numpy as np

from muxjax.cache.arena import Arena
from muxjax.cache.layout import CacheLayout
from muxjax.cache.table import TableDelta, Tables
from muxjax.engine.executor import SAMPLED, SAMPLING, Step, sampling_row
from muxjax.engine.sequence import NO_SLOT, ByAge, Sequence, Stage
from muxjax.engine.slot_text import SlotText
from muxjax.scheduler.view import Decode, ModelView, Pending, Prefill, Running
from muxjax.types import Finish, Output, Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What a unit must know of a model.

    Args:
      slots: most sequences at a time.
      max_tokens: most tokens of a sequence, prompt and output.
      quota_blocks, floor_blocks: head blocks it may hold at first, and may always hold.
    """

    name: str
    layout: CacheLayout
    slots: int
    max_tokens: int
    quota_blocks: int
    floor_blocks: int


class Resident:
    """The mutable state of one model. Its `Unit` alone calls it, and alone decides; this keeps the books."""

    def __init__(self, member: Member, arena: Arena):
        self.member = member
        self.tables = Tables(member.layout, arena, slots=member.slots, max_tokens=member.max_tokens)
        self.quota_blocks = member.quota_blocks
        self.in_flight = 0
        self.last = dict.fromkeys(Phase, 0)  # turn of the last job of each phase
        self.preemptions = 0
        self.steps = dict.fromkeys(Phase, 0)
        self.tokens = dict.fromkeys(Phase, 0)
        self._groups = {stage: ByAge() for stage in (Stage.WAITING, Stage.PREFILLING, Stage.DECODING)}
        self._free_slots = list(range(member.slots - 1, -1, -1))
        self._by_slot: list[Sequence | None] = [None] * member.slots  # whose it is until its last step has landed
        self._ids: list[str] = [""] * member.slots  # of their requests
        self._text = SlotText(member.slots, member.max_tokens)
        self._flights = np.zeros(member.slots, np.int32)  # steps in flight that compute for a slot
        self._leaving: list[Sequence] = []  # ended, with a step in flight
        self._sampling = np.zeros(member.slots, SAMPLING)

    @property
    def waiting(self) -> ByAge:
        return self._groups[Stage.WAITING]

    @property
    def prefilling(self) -> ByAge:
        return self._groups[Stage.PREFILLING]

    @property
    def decoding(self) -> ByAge:
        return self._groups[Stage.DECODING]

    def view(self, *, look_ahead: int, rows: int) -> ModelView:
        """All that a policy may know of this model; `rows` bounds its pending requests."""
        open_slots, full = self._open()
        growing = int(np.count_nonzero(full))
        return ModelView(
            name=self.member.name,
            ready=self.in_flight < look_ahead,
            in_flight=self.in_flight,
            pending=self._pending(rows),
            waiting=len(self.waiting),
            free_slots=len(self._free_slots),
            decoding=len(open_slots) - growing,
            growing=growing,
            column_blocks=self.member.layout.column_blocks,
            held_blocks=self.tables.held,
            quota_blocks=self.quota_blocks,
            floor_blocks=self.member.floor_blocks,
            running=len(self.prefilling) + len(self.decoding),
            oldest_s=min((group[0].request.arrival_s for group in self._groups.values() if group), default=float("inf")),
            youngest=self._youngest(),
            last_prefill=self.last[Phase.PREFILL],
            last_decode=self.last[Phase.DECODE],
        )

    def enter(self, sequence: Sequence) -> None:
        """It waits for its prefill."""
        self._move(sequence, Stage.WAITING)

    def prefill(self, job: Prefill, pending: list[Sequence], step_id: int) -> Step:
        """Launches the next tokens of those sequences, admitting the ones that wait."""
        deltas = [self._admit(sequence) for sequence in pending if sequence.stage is Stage.WAITING]
        slots = np.array([sequence.slot for sequence in pending], np.int32)
        counts = np.array([chunk.tokens for chunk in job.chunks], np.int32)
        starts = self.tables.lengths[slots]
        assert (starts + counts <= self._text.known[slots]).all(), "a chunk goes past the tokens of its sequence"
        tokens = [self._text.tokens[slot, start : start + count] for slot, start, count in zip(slots, starts, counts, strict=True)]
        for sequence, complete in zip(pending, starts + counts == self._text.known[slots], strict=True):
            if complete:
                self._move(sequence, Stage.DECODING)
        return self._launch(step_id, Phase.PREFILL, slots, counts, np.concatenate(tokens), self._joined(deltas))

    def decode(self, job: Decode, step_id: int) -> Step:
        """Launches one token for each decoding sequence that has room, and for the oldest that may grow."""
        open_slots, full = self._open()
        growing = np.flatnonzero(full)
        grown, stalled = growing[: job.grow], growing[job.grow :]
        delta = self.tables.grow(open_slots[grown])
        slots = np.delete(open_slots, stalled) if len(stalled) else open_slots
        assert len(slots), "a decode job without a sequence to decode"
        once = np.ones(len(slots), np.int32)
        return self._launch(step_id, Phase.DECODE, slots, once, once * SAMPLED, delta)

    def absorb(self, step: Step, tokens: np.ndarray, at_s: float) -> tuple[list[Output], list[tuple[int, Sequence, Finish]]]:
        """Takes in what the step sampled: an output a row that gained a token, and which of them end, why."""
        ends = step.starts + step.counts
        # A row sampled a token of use if it had consumed all that were known: not a prompt's earlier chunk.
        useful = self._text.open[step.slots] & (ends == self._text.known[step.slots])
        slots, tokens = step.slots[useful], tokens[useful]
        stopped, full = self._text.extend(slots, tokens)
        ids = [self._ids[slot] for slot in slots.tolist()]
        outputs = list(map(Output, ids, tokens.tolist(), repeat(None), repeat(at_s)))
        last = np.flatnonzero(stopped | full).tolist()
        return outputs, [(i, self._of(slots[i]), Finish.STOP if stopped[i] else Finish.LENGTH) for i in last]

    def land(self, step: Step) -> None:
        """The step is over: ended sequences whose last one it was leave, and what windows have passed goes back."""
        self.in_flight -= 1
        self._flights[step.slots] -= 1
        self.tables.retire(step.slots, step.starts + step.counts)
        for sequence in self._leaving:
            if not self._flights[sequence.slot]:
                self._release(sequence)
        self._leaving = [sequence for sequence in self._leaving if sequence.slot != NO_SLOT]

    def end(self, sequence: Sequence) -> None:
        """Nothing more is computed for it; its blocks go back when no step in flight holds them."""
        self._move(sequence, Stage.ENDED)
        if sequence.slot == NO_SLOT:
            return
        self._text.open[sequence.slot] = False
        if self._flights[sequence.slot]:
            self._leaving.append(sequence)
        else:
            self._release(sequence)

    def preempt(self, sequence: Sequence) -> None:
        """Its blocks go back; it waits again, with the tokens it has."""
        assert not self._flights[sequence.slot], "a sequence in flight cannot be pre-empted"
        sequence.tokens = self._text.of(sequence.slot)
        self._move(sequence, Stage.WAITING)
        self._release(sequence)
        self.preemptions += 1

    def _move(self, sequence: Sequence, stage: Stage) -> None:
        if sequence.stage in self._groups:
            self._groups[sequence.stage].remove(sequence)
        if stage in self._groups:
            self._groups[stage].add(sequence)
        sequence.stage = stage

    def _admit(self, sequence: Sequence) -> TableDelta:
        slot = sequence.slot = self._free_slots.pop()
        self._move(sequence, Stage.PREFILLING)
        self._by_slot[slot], self._ids[slot] = sequence, sequence.request.id
        self._sampling[slot] = sampling_row(sequence.request.sampling)
        self._text.begin(slot, sequence.tokens, sequence.request)
        return self.tables.reserve(slot, len(sequence.tokens))

    def _of(self, slot: int) -> Sequence:
        sequence = self._by_slot[slot]
        assert sequence is not None
        return sequence

    def _release(self, sequence: Sequence) -> None:
        self.tables.release(sequence.slot)
        self._free_slots.append(sequence.slot)
        self._by_slot[sequence.slot] = None
        sequence.slot = NO_SLOT

    def _launch(self, step_id: int, phase: Phase, slots: np.ndarray, counts: np.ndarray, tokens: np.ndarray, delta: TableDelta) -> Step:
        self.in_flight += 1
        self._flights[slots] += 1
        self.steps[phase] += 1
        self.tokens[phase] += len(tokens)
        starts = self.tables.lengths[slots]
        self.tables.lengths[slots] += counts
        return Step(
            id=step_id,
            model=self.member.name,
            decodes=len(slots) if phase is Phase.DECODE else 0,
            slots=slots,
            starts=starts,
            counts=counts,
            tokens=tokens,
            sampling=self._sampling[slots],
            delta=delta,
        )

    def _open(self) -> tuple[np.ndarray, np.ndarray]:
        """Slots that may get another token, oldest first, and which of them need a column for it."""
        slots = self.decoding.slots
        slots = slots[self.tables.lengths[slots] < self._text.limit[slots] - 1]  # the last token is never read back
        return slots, self.tables.full(slots)

    def _pending(self, rows: int) -> tuple[Pending, ...]:
        admitted = self.prefilling.first(rows)
        return tuple(self._as_pending(sequence) for sequence in admitted + self.waiting.first(rows - len(admitted)))

    def _as_pending(self, sequence: Sequence) -> Pending:
        waits, slot = sequence.stage is Stage.WAITING, sequence.slot
        return Pending(
            request_id=sequence.request.id,
            arrival_s=sequence.request.arrival_s,
            tokens=len(sequence.tokens) if waits else int(self._text.known[slot] - self.tables.lengths[slot]),
            blocks=self.member.layout.blocks(len(sequence.tokens)) if waits else 0,
        )

    def _youngest(self) -> Running | None:
        last = [group[-1] for group in (self.prefilling, self.decoding) if group]
        if not last:
            return None
        sequence = max(last, key=lambda sequence: sequence.age)
        return Running(
            request_id=sequence.request.id,
            arrival_s=sequence.request.arrival_s,
            blocks=self.tables.blocks(sequence.slot),
            idle=not self._flights[sequence.slot],
        )

    def _joined(self, deltas: list[TableDelta]) -> TableDelta:
        return TableDelta(*(np.concatenate(parts) for parts in zip(self._no_delta, *deltas, strict=True)))

    @property
    def _no_delta(self) -> TableDelta:
        layout, none = self.member.layout, np.zeros(0, np.int32)
        return TableDelta(none, none, np.zeros((0, layout.layers, layout.kv_heads), np.int32))
