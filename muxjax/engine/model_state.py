"""One model's sequences, slots and block tables inside a unit."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np

from muxjax.cache.block_pool import BlockPool
from muxjax.cache.layout import CacheLayout
from muxjax.cache.table import TableDelta, Tables
from muxjax.engine.executor import SAMPLED, SAMPLING, Done, Step, sampling_row
from muxjax.engine.grammar import Grammars
from muxjax.engine.sequence import NO_SLOT, ByAge, Sequence, Stage
from muxjax.engine.slot_text import SlotText
from muxjax.engine.stats import Status, Tally
from muxjax.engine.token_controls import TokenControls, step_controls, take_outputs
from muxjax.engine.waiting import Waiting
from muxjax.scheduler.fairness import OUTPUT_PRICE, PROMPT_PRICE
from muxjax.scheduler.view import Job, ModelView, Pending, Running
from muxjax.types import Finish, Output, Phase

_NO_SLOTS = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What a unit must know of a model.

    Args:
      slots: most sequences at a time.
      max_tokens: most tokens of a sequence, prompt and output.
      vocab: tokens that its requests may name.
      grammars: of its tokenizer; without them no request may have a grammar.
      rate: expected requests a second against the other models', by which `Unit` deals quotas.
      weight: its share of prefills and of the arena, against the other models.
      token_cost: what it takes to compute a token again, such as the number of parameters; only the models' ratios count.
    """

    name: str
    layout: CacheLayout
    slots: int
    max_tokens: int
    vocab: int = 2**31 - 1
    grammars: Grammars | None = None
    rate: float = 1.0
    weight: float = 1.0
    token_cost: float = 1.0


class ModelState:
    """The mutable state of one model. Its `Unit` alone calls it, and alone decides; this keeps the books."""

    def __init__(self, config: ModelConfig, pool: BlockPool, *, prefix_caching: bool, look_ahead: int, rows: int, every_token: bool):
        """`rows` bounds the pending requests that a view tells of; the others are the unit's."""
        layout = config.layout
        worth = config.token_cost * layout.tokens_per_block / layout.column_blocks
        self.config = config
        self.blocks = pool.model_blocks(layout.column_blocks, worth=worth, keeps=prefix_caching and not layout.forgets(config.max_tokens))
        self.tables = Tables(layout, self.blocks, slots=config.slots, max_tokens=config.max_tokens)
        self.in_flight = 0
        self.status = Status.READY
        self.trouble = ""  # of one that has failed
        self.floor_blocks = 0
        self.tally = Tally()
        self.waiting, self.prefilling, self.decoding = Waiting(), ByAge(), ByAge()
        self._look_ahead, self._rows, self._every_token = look_ahead, rows, every_token
        self._quota_blocks = 0  # until the unit deals
        self._view: ModelView | None = None  # both are kept until something of the model changes
        self._evicted = 0  # of its blocks, when that view was made
        self._open: tuple[np.ndarray, np.ndarray] | None = None
        self._free_slots = list(range(config.slots - 1, -1, -1))
        self._by_slot: list[Sequence | None] = [None] * config.slots  # whose it is until its last step has landed
        self._ids: list[str] = [""] * config.slots  # of their requests
        self._text = SlotText(config.slots, config.max_tokens)
        self._flights = np.zeros(config.slots, np.int32)  # steps in flight that compute for a slot
        self._payers = np.zeros(config.slots, np.int32)  # whose service a slot's is
        self._landed = np.zeros(config.slots, np.int32)  # tokens that are in the cache, whatever flies
        self._cached = np.zeros(config.slots, np.int32)  # prompt tokens that were when it was admitted, until that is told
        self._leaving: list[Sequence] = []  # ended, with a step in flight
        self._sampling = np.zeros(config.slots, SAMPLING)
        self._controls: dict[int, TokenControls] = {}  # by slot, of the few who have any
        self._tied = np.zeros(config.slots, bool)  # slots whose every step must know the token of the one before
        self._ones, self._all_sampled = np.ones(config.slots, np.int32), np.full(config.slots, SAMPLED, np.int32)
        self._ones.flags.writeable = self._all_sampled.flags.writeable = False  # steps share them

    @property
    def quota_blocks(self) -> int:
        return self._quota_blocks

    @quota_blocks.setter
    def quota_blocks(self, blocks: int) -> None:
        self._quota_blocks = blocks
        self._view = None

    def allot(self, quota_blocks: int, floor_blocks: int) -> None:
        """Models have come or gone: what it may hold from now on, and may always hold."""
        self.quota_blocks, self.floor_blocks = quota_blocks, floor_blocks

    @property
    def serves(self) -> bool:
        """It has its weights, and blocks are for it too."""
        return self.status in (Status.READY, Status.DRAINING)

    @property
    def busy(self) -> bool:
        """It has requests or steps in flight."""
        return bool(self.in_flight or self.waiting or self.prefilling or self.decoding)

    @property
    def can_launch(self) -> bool:
        """It has requests, and another step of it may be launched."""
        return self.in_flight < self._look_ahead and bool(self.decoding or self.prefilling or self.waiting)

    def view(self) -> ModelView:
        """All that a policy may know of this model."""
        if self._view is None or self._evicted != self.blocks.evicted:
            self._view, self._evicted = self._look(), self.blocks.evicted
        return self._view

    def _look(self) -> ModelView:
        open_slots, full = self._openings()
        growing = int(np.count_nonzero(full))
        return ModelView(
            name=self.config.name,
            ready=self.in_flight < self._look_ahead,
            in_flight=self.in_flight,
            pending=self._pending(),
            waiting=len(self.waiting),
            free_slots=len(self._free_slots),
            decoding=len(open_slots) - growing,
            growing=growing,
            column_blocks=self.tables.column_blocks,
            held_blocks=self.blocks.held,
            quota_blocks=self._quota_blocks,
            floor_blocks=self.floor_blocks,
            running=len(self.prefilling) + len(self.decoding),
            weight=self.config.weight,
            oldest_s=min(self.waiting.oldest_s, self.prefilling.oldest_s, self.decoding.oldest_s),
            youngest=self._youngest(),
            last_prefill=self.tally.last_prefill,
            last_decode=self.tally.last_decode,
        )

    def enter(self, sequence: Sequence) -> None:
        """It waits for its prefill."""
        if self.blocks.keeps:
            sequence.chain.extend(sequence.tokens, self._most_cached(sequence))
        self._move(sequence, Stage.WAITING)

    def launch(self, job: Job, pending: list[Sequence], step_id: int) -> Step:
        """Launches a job: the rows that decode, then the next tokens of `pending`, of which those that wait are admitted."""
        decoding, growth = self._grow(job)  # before `pending` is looked at: whose last chunk this is does not decode yet
        slots, delta = decoding, growth
        counts, tokens = self._ones[: len(slots)], self._all_sampled[: len(slots)]
        if pending:
            delta = _joined([growth, *(self._admit(sequence) for sequence in pending if sequence.stage is Stage.WAITING)])
            slots = np.concatenate([decoding, np.array([sequence.slot for sequence in pending], np.int32)])
            counts = np.concatenate([counts, np.array([chunk.tokens for chunk in job.chunks], np.int32)])
            tokens = np.concatenate([tokens, *map(self._advance, pending, counts[len(decoding) :])])
        self.in_flight += 1
        self._flights[slots] += 1
        self._charge(slots, counts, len(decoding))
        starts = self.tables.lengths[slots]
        self.tables.lengths[slots] = starts + counts
        step = Step(
            id=step_id,
            model=self.config.name,
            decodes=len(decoding),
            slots=slots,
            starts=starts,
            counts=counts,
            tokens=tokens,
            sampling=self._sampling.take(slots),
            delta=delta,
        )
        self.tally.add(step)
        self._changed()
        return replace(step, controls=step_controls(self._controls, self._text, step)) if self._controls else step

    def _charge(self, slots: np.ndarray, counts: np.ndarray, decodes: int) -> None:
        """Each row is service for its tenant; its last `len - decodes` rows are chunks."""
        if self.waiting.contested:
            prices = np.where(np.arange(len(slots)) < decodes, OUTPUT_PRICE, PROMPT_PRICE)
            self.waiting.charge(self._payers[slots], counts * prices)

    def absorb(self, step: Step, done: Done) -> tuple[list[Output], list[tuple[int, Sequence, Finish]]]:
        """Takes in what the step sampled: an output a row that gained a token, and which of them end, why."""
        ends = step.starts + step.counts
        # A row sampled a token of use if it had consumed all that were known: not a prompt's earlier chunk.
        rows = (self._text.open[step.slots] & (ends == self._text.known[step.slots])).nonzero()[0]
        slots, tokens = step.slots[rows], done.tokens[rows]
        stopped, full = self._text.extend(slots, tokens)
        ended = stopped | full
        if not self._every_token and not step.controls:
            if step.phase is Phase.DECODE and not ended.any():
                return [], []
            last = np.flatnonzero(ended | (rows >= step.decodes))
            slots, tokens, stopped, ended = slots[last], tokens[last], stopped[last], ended[last]
        ids = [self._ids[slot] for slot in slots.tolist()]
        outputs = list(map(Output, ids, tokens.tolist(), repeat(None), repeat(done.at_s)))
        if step.controls:
            outputs = take_outputs(self._controls, step, done, rows, outputs)
        if step.phase is Phase.PREFILL:
            self._note_cached(outputs, slots)
        last = np.flatnonzero(ended).tolist()
        return outputs, [(i, self._of(slots[i]), Finish.STOP if stopped[i] else Finish.LENGTH) for i in last]

    def land(self, step: Step) -> None:
        """The step is over: ended sequences whose last one it was leave, and what windows have passed goes back."""
        self._view = None
        if self._controls:
            self._open = None
        self.in_flight -= 1
        self._flights[step.slots] -= 1
        self._landed[step.slots] = ends = step.starts + step.counts
        for slot in step.slots[step.decodes :].tolist():
            self._keep(slot)
        self.tables.retire(step.slots, ends)
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
        self._release(sequence)
        self.enter(sequence)
        self.tally.preemptions += 1

    def forget(self) -> None:
        """Steps in flight have come to nothing, and so has the cache: what runs waits again, with the tokens it has."""
        self.in_flight = 0
        self._flights[:] = 0
        for sequence in self._leaving:
            self._release(sequence)
        self._leaving = []
        for sequence in [*self.prefilling, *self.decoding]:
            self.preempt(sequence)
        self.blocks.clear()
        self._changed()

    def _move(self, sequence: Sequence, stage: Stage) -> None:
        groups = {Stage.WAITING: self.waiting, Stage.PREFILLING: self.prefilling, Stage.DECODING: self.decoding}
        if sequence.stage in groups:
            groups[sequence.stage].remove(sequence)
        if stage in groups:
            groups[stage].add(sequence)
        sequence.stage = stage
        self._changed()

    def _changed(self) -> None:
        self._view = self._open = None

    def _admit(self, sequence: Sequence) -> TableDelta:
        cached = self.blocks.use(sequence.chain, self._count_cached(sequence))
        slot = sequence.slot = self._free_slots.pop()
        self._move(sequence, Stage.PREFILLING)
        self._by_slot[slot], self._ids[slot] = sequence, sequence.request.id
        self._payers[slot] = self.waiting.payer(sequence)
        self._sampling[slot] = sampling_row(sequence.request.sampling)
        self._text.begin(slot, sequence.tokens, sequence.request)
        if sequence.controls:
            self._controls[slot], self._tied[slot] = sequence.controls, sequence.controls.tied
        self._landed[slot] = tokens = len(cached) * self.config.layout.tokens_per_block
        if self.blocks.keeps and len(sequence.tokens) == len(sequence.request.prompt):
            self._cached[slot] = tokens
            self.tally.look_up(len(sequence.tokens), tokens)
        return self.tables.reserve(slot, len(sequence.tokens), cached)

    def _most_cached(self, sequence: Sequence) -> int:
        """Columns of a waiting sequence that may come from the cache: one token is computed, for what comes after it."""
        return (len(sequence.tokens) - 1) // self.config.layout.tokens_per_block

    def _count_cached(self, sequence: Sequence) -> int:
        """Its first columns that do; none if it wants its prompt's log-probabilities."""
        computed = sequence.controls is not None and sequence.controls.wants_prompt_logprobs
        return 0 if computed else self.blocks.count_cached(sequence.chain, self._most_cached(sequence))

    def _keep(self, slot: int) -> None:
        """Others may find the full columns that are computed of a slot, by tokens that are known: not what a late stop left behind."""
        if self.blocks.keeps:
            columns = int(min(self._landed[slot], self._text.known[slot])) // self.config.layout.tokens_per_block
            chain = self._of(slot).chain
            chain.extend(self._text.tokens[slot], columns)
            self.tables.keep(slot, chain.names[:columns])

    def _note_cached(self, outputs: list[Output], slots: np.ndarray) -> None:
        """In the first output of each of the slots' sequences."""
        cached = self._cached[slots]
        for i in np.flatnonzero(cached).tolist():
            outputs[i] = outputs[i]._replace(cached_tokens=int(cached[i]))
        self._cached[slots] = 0

    def _of(self, slot: int) -> Sequence:
        sequence = self._by_slot[slot]
        assert sequence is not None
        return sequence

    def _release(self, sequence: Sequence) -> None:
        self._keep(sequence.slot)
        self.tables.release(sequence.slot)
        self._free_slots.append(sequence.slot)
        self._by_slot[sequence.slot] = None
        self._controls.pop(sequence.slot, None)
        self._tied[sequence.slot] = False
        sequence.slot = NO_SLOT

    def _grow(self, job: Job) -> tuple[np.ndarray, TableDelta]:
        """Slots that decode in the job, oldest first, and the columns that they take for it."""
        if not job.decode:
            return _NO_SLOTS, self.tables.grow(_NO_SLOTS)
        slots, full = self._openings()
        growing = np.flatnonzero(full)
        if not len(growing):
            return slots, self.tables.grow(_NO_SLOTS)
        grown, stalled = growing[: job.grow], growing[job.grow :]
        delta = self.tables.grow(slots[grown])
        rows = np.delete(slots, stalled) if len(stalled) else slots
        assert len(rows), "a job decodes, but no sequence can"
        return rows, delta

    def _advance(self, sequence: Sequence, count: int) -> np.ndarray:
        """The sequence's next `count` tokens; with the last of them it begins to decode."""
        slot = sequence.slot
        start, known = self.tables.lengths[slot], self._text.known[slot]
        assert start + count <= known, "a chunk goes past the tokens of its sequence"
        if start + count == known:
            self._move(sequence, Stage.DECODING)
        return self._text.tokens[slot, start : start + count]

    def _openings(self) -> tuple[np.ndarray, np.ndarray]:
        """Slots that may get another token, oldest first, and which of them need a column for it."""
        if self._open is None:
            slots = self.decoding.slots
            slots = slots[self.tables.lengths[slots] < self._text.limit[slots] - 1]  # the last token is never read back
            if self._controls:
                slots = slots[~self._tied[slots] | (self._flights[slots] == 0)]
            self._open = slots, self.tables.full(slots)
        return self._open

    def _pending(self) -> tuple[Pending, ...]:
        if not self.prefilling and not self.waiting:
            return ()
        admitted = self.prefilling.first(self._rows)
        return tuple(self._as_pending(sequence) for sequence in admitted + self.waiting.first(self._rows - len(admitted)))

    def _as_pending(self, sequence: Sequence) -> Pending:
        request, layout = sequence.request, self.config.layout
        if sequence.stage is not Stage.WAITING:
            left = int(self._text.known[sequence.slot] - self.tables.lengths[sequence.slot])
            return Pending(request_id=request.id, arrival_s=request.due_s, tokens=left, blocks=0)
        tokens, cached = len(sequence.tokens), self._count_cached(sequence)
        return Pending(
            request_id=request.id,
            arrival_s=request.due_s,
            tokens=tokens - cached * layout.tokens_per_block,
            blocks=layout.blocks(tokens) - self.blocks.count_shared(sequence.chain, cached) * layout.column_blocks,
        )

    def _youngest(self) -> Running | None:
        last = [group[-1] for group in (self.prefilling, self.decoding) if group]
        if not last:
            return None
        sequence = max(last, key=lambda sequence: sequence.age)
        return Running(
            request_id=sequence.request.id,
            arrival_s=sequence.request.due_s,
            blocks=self.tables.blocks(sequence.slot),
            idle=not self._flights[sequence.slot],
        )


def _joined(deltas: Iterable[TableDelta]) -> TableDelta:
    return TableDelta(*map(np.concatenate, zip(*deltas, strict=True)))
