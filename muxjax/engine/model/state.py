"""The mutable state of one model inside a unit: it owns sequences, slots and block tables, and keeps them in step."""

from collections.abc import Callable
from math import inf

import numpy as np

from muxjax.cache.block_pool import BlockPool
from muxjax.cache.table import TableDelta, Tables
from muxjax.engine.executor import Done, Step
from muxjax.engine.model.absorb import Absorbed, absorb
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.model.launch import Launcher, Rows, joined
from muxjax.engine.model.prefixes import Prefixes
from muxjax.engine.model.requests import Requests
from muxjax.engine.model.sequence import NO_SLOT, Sequence, Stage
from muxjax.engine.model.slots import Slots
from muxjax.engine.model.stages import Stages
from muxjax.engine.speculation.drafter import Drafter
from muxjax.engine.stats import Status, Tally
from muxjax.scheduler.pace import Pace, slowness
from muxjax.scheduler.view import Chunk, Job, ModelView
from muxjax.types import Ints, Phase


class ModelState:
    """Sequences and blocks of one model. Its `Unit` alone calls it, and alone decides."""

    def __init__(self, config: ModelConfig, pool: BlockPool, *, prefix_caching: bool, look_ahead: int, rows: int, every_token: bool):
        """`rows` bounds the pending requests of a view; the others are the unit's."""
        layout = config.layout
        worth = config.token_cost * layout.tokens_per_block / layout.column_blocks
        self.config = config
        self.status = Status.READY
        self.trouble = ""  # of one that has failed
        self.in_flight = self.prefills_in_flight = 0
        self.pace = Pace()
        self.tally = Tally()
        self.blocks = pool.model_blocks(layout.column_blocks, worth=worth, keeps=prefix_caching and not layout.forgets(config.max_tokens))
        self.tables = Tables(layout, self.blocks, slots=config.slots, max_tokens=config.max_tokens)
        self.stages = Stages()
        self.slots = Slots(config.slots, config.max_tokens)
        self.quota_blocks = self.floor_blocks = 0  # until the unit deals
        self._prefixes = Prefixes(self.blocks, self.tables, self.slots, self.tally)
        self._launcher = Launcher(config.name, self.tables, self.slots, self.stages, has_adapters=config.max_loras > 0)
        self._drafter = Drafter(config.speculation, self.tables, self.slots) if config.speculation else None
        self._requests = Requests(self.stages, self.tables, self.slots, self._prefixes, max_loras=config.max_loras)
        self._look_ahead, self._rows, self._every_token = look_ahead, rows, every_token
        self._leaving: list[Sequence] = []  # ended, with a step in flight
        self._view: ModelView | None = None  # kept until something of the model changes
        self._view_evicted = 0  # of its blocks, when that view was made
        self._view_until_s = inf  # a request misses its target then

    def allot(self, quota_blocks: int, floor_blocks: int | None = None) -> None:
        """Head blocks that it may hold from now on, and may always hold."""
        self.quota_blocks = quota_blocks
        self.floor_blocks = self.floor_blocks if floor_blocks is None else floor_blocks
        self._view = None

    @property
    def serves(self) -> bool:
        """It has its weights, and blocks are for it too."""
        return self.status.serves

    @property
    def busy(self) -> bool:
        """It has requests or steps in flight."""
        return bool(self.in_flight or self.stages)

    @property
    def can_launch(self) -> bool:
        """It has requests, and another step of it may be launched."""
        return self._ready and bool(self.stages)

    @property
    def _ready(self) -> bool:
        """Another step of it may be launched, if there is one; drafts follow tokens that are known."""
        return self.in_flight < (1 if self._drafter and self._drafter.speculates else self._look_ahead)

    def view(self, now_s: float) -> ModelView:
        """All that a policy may know of this model."""
        if self._view is None or self._view_evicted != self.blocks.evicted or now_s >= self._view_until_s:
            self._view_until_s = self._give_up(now_s)
            self._view, self._view_evicted = self._look(), self.blocks.evicted
        return self._view

    def _give_up(self, now_s: float) -> float:
        """Lets requests that will miss the target of a first token wait behind those that may meet it; when the next one does."""
        target_s = self.config.ttft_s
        if target_s is None:
            return inf
        return self.stages.waiting.give_up(
            lambda sequence: sequence.request.arrival_s + target_s - self.pace.first_s(len(sequence.tokens)), now_s
        )

    def _look(self) -> ModelView:
        openings = self._launcher.openings
        growing = int(np.count_nonzero(openings.full))
        return ModelView(
            name=self.config.name,
            ready=self._ready,
            in_flight=self.in_flight,
            prefills_in_flight=self.prefills_in_flight,
            pending=self._requests.pending(self._rows),
            waiting=len(self.stages.waiting),
            free_slots=self.slots.free,
            decoding=len(openings.slots) - growing,
            growing=growing,
            column_blocks=self.tables.column_blocks,
            held_blocks=self.blocks.held,
            quota_blocks=self.quota_blocks,
            floor_blocks=self.floor_blocks,
            running=self.stages.running,
            weight=self.config.weight,
            lane=self.config.lane,
            pace=self.pace,
            tpot_s=self.config.tpot_s,
            ttft_s=self.config.ttft_s,
            step_sizes=self.config.step_sizes,
            sm_shares=self.config.sm_shares,
            oldest_s=self.stages.oldest_s,
            youngest=self._requests.youngest(),
            last_prefill=self.tally.last_prefill,
            last_decode=self.tally.last_decode,
        )

    def enter(self, sequence: Sequence) -> None:
        """It waits for its prefill."""
        self._prefixes.name(sequence)
        self._move(sequence, Stage.WAITING)

    def launch(self, job: Job, pending: list[Sequence], step_id: int) -> Step:
        """Launches a job: the rows that decode, then the next tokens of `pending`, of which those that wait are admitted."""
        decodes = self._launcher.decodes(job)  # before `pending` is looked at: whose last chunk this is does not decode yet
        rows = self._with_chunks(decodes, job.chunks, pending) if pending else decodes
        step = self._launcher.step(step_id, rows, job, decodes=len(decodes.slots))
        if self._drafter:
            step = self._drafter.with_drafts(step)
        step = self._launcher.with_controls(step)
        self.in_flight += 1
        self.prefills_in_flight += step.phase is Phase.PREFILL
        self.tally.add(step)
        self._changed()
        return step

    def absorb(self, step: Step, done: Done, seconds: float) -> Absorbed:
        """Takes in what the step sampled, which took so long."""
        absorbed = absorb(self.slots, step, done, every_token=self._every_token)
        if step.phase is Phase.PREFILL:
            self._prefixes.note_cached(absorbed.outputs, absorbed.slots)
        if self._drafter:
            self._drafter.note(step, self._accept(step), seconds)
        return absorbed

    def land(self, step: Step, seconds: float | None = None) -> None:
        """The step is over: ended sequences whose last one it was leave, and what windows have passed goes back.

        Args:
          seconds: that it took; None where that says nothing of others.
        """
        self._view = None
        if seconds is not None:
            tokens = int(step.counts[step.decodes :].sum()) * slowness(self.config.sm_shares, step.sm_share)
            self.pace = self.pace.after(tokens, seconds)
        if self.slots.controls:
            self._launcher.forget_openings()
        self.in_flight -= 1
        self.prefills_in_flight -= step.phase is Phase.PREFILL
        self.slots.flights[step.slots] -= 1
        ends = step.starts + step.counts if step.drafts is None else self.tables.lengths[step.slots]  # it flew alone
        self._prefixes.land(step.slots, ends)
        for slot in step.slots[step.decodes :].tolist():
            self._prefixes.keep(slot)
        self.tables.retire(step.slots, ends)
        for sequence in self._leaving:
            if not self.slots.flights[sequence.slot]:
                self._release(sequence)
        self._leaving = [sequence for sequence in self._leaving if sequence.slot != NO_SLOT]

    def await_drafts(self, ask: Callable[[Sequence, Ints, int], bool]) -> None:
        """Has its draft model asked for drafts of all sequences that could decode now; those wait for which some are on their way.

        Args:
          ask: for at most so many tokens behind the text of a sequence; whether they are on their way.
        """
        if self._drafter is None or self.in_flight:
            return
        for slot, most in self._drafter.wanted(self._launcher.openings.slots):
            self.slots.awaits[slot] = ask(self.slots.sequence(slot), self.slots.text.view(slot), most)
        self._changed()

    def take_drafts(self, sequence: Sequence, tokens: list[int], waited_s: float) -> None:
        """What was made of a draft, which may be nothing: its sequence waits no longer."""
        if self._drafter and sequence.stage is Stage.DECODING and self.slots.awaits[sequence.slot]:
            self.slots.awaits[sequence.slot] = False
            self._drafter.keep(sequence.slot, np.array([token for token in tokens if token < self.config.vocab], np.int32), waited_s)
            self._changed()

    def end(self, sequence: Sequence) -> None:
        """Nothing more is computed for it; its blocks go back when no step in flight holds them."""
        self._move(sequence, Stage.ENDED)
        if sequence.slot == NO_SLOT:
            return
        self.slots.text.open[sequence.slot] = False
        if self.slots.flights[sequence.slot]:
            self._leaving.append(sequence)
        else:
            self._release(sequence)

    def preempt(self, sequence: Sequence) -> None:
        """Its blocks go back; it waits again, with the tokens it has."""
        assert not self.slots.flights[sequence.slot], "a sequence in flight cannot be pre-empted"
        sequence.tokens = self.slots.text.of(sequence.slot)
        self._release(sequence)
        self.enter(sequence)
        self.tally.preemptions += 1

    def forget(self) -> None:
        """Steps in flight have come to nothing, and so has the cache: what runs waits again, with the tokens it has."""
        self.in_flight = self.prefills_in_flight = 0
        self.slots.flights[:] = 0
        for sequence in self._leaving:
            self._release(sequence)
        self._leaving = []
        for sequence in [*self.stages.prefilling, *self.stages.decoding]:
            self.preempt(sequence)
        self.blocks.clear()
        self._changed()

    def _accept(self, step: Step) -> int:
        """Drafts of a step that were right, and so are computed; where the others lie will be written again."""
        if step.drafts is None:
            return 0
        slots = step.slots[: step.decodes]
        accepted = np.maximum(self.slots.text.known[slots] - 1 - self.tables.lengths[slots], 0)
        self.tables.lengths[slots] += accepted
        self._launcher.forget_openings()
        self._launcher.charge(slots, accepted, len(slots))
        self.tally.verify(step.drafts, int(accepted.sum()))
        return int(accepted.sum())

    def _with_chunks(self, decodes: Rows, chunks: tuple[Chunk, ...], pending: list[Sequence]) -> Rows:
        """The rows, and behind them a chunk of each pending sequence."""
        delta = joined([decodes.delta, *(self._admit(sequence) for sequence in pending if sequence.stage is Stage.WAITING)])
        tokens = [self._chunk(sequence, chunk.tokens) for sequence, chunk in zip(pending, chunks, strict=True)]
        return Rows(
            slots=np.concatenate([decodes.slots, np.array([sequence.slot for sequence in pending], np.int32)]),
            counts=np.concatenate([decodes.counts, np.array([chunk.tokens for chunk in chunks], np.int32)]),
            tokens=np.concatenate([decodes.tokens, *tokens]),
            delta=delta,
        )

    def _admit(self, sequence: Sequence) -> TableDelta:
        columns = self._prefixes.use(sequence)
        slot = self.slots.take(sequence, self.stages.waiting.payer(sequence))
        self._move(sequence, Stage.PREFILLING)
        self._prefixes.begin(slot, sequence, len(columns))
        return self.tables.reserve(slot, len(sequence.tokens), columns)

    def _chunk(self, sequence: Sequence, count: int) -> Ints:
        """The sequence's next `count` tokens; with the last of them it begins to decode."""
        tokens = self._launcher.chunk(sequence.slot, count)
        if self._launcher.is_last_chunk(sequence.slot, count):
            self._move(sequence, Stage.DECODING)
        return tokens

    def _move(self, sequence: Sequence, stage: Stage) -> None:
        self.stages.move(sequence, stage)
        self._changed()

    def _changed(self) -> None:
        self._view = None
        self._launcher.forget_openings()

    def _release(self, sequence: Sequence) -> None:
        self._prefixes.keep(sequence.slot)
        self.tables.release(sequence.slot)
        self.slots.give(sequence)
