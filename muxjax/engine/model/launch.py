"""From a job of a policy to a step: which slots decode, which tokens a chunk computes, and what both take of the tables."""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from muxjax.cache.table import TableDelta, Tables
from muxjax.engine.executor import SAMPLED, Step
from muxjax.engine.model.slots import Slots
from muxjax.engine.model.stages import Stages
from muxjax.engine.token_controls import step_controls
from muxjax.scheduler.fairness import OUTPUT_PRICE, PROMPT_PRICE
from muxjax.scheduler.view import Job
from muxjax.types import Bools, Ints

_NO_SLOTS = np.zeros(0, np.int32)


class Openings(NamedTuple):
    """Slots that may get another token, oldest first, and which of them need a column for it."""

    slots: Ints
    full: Bools


class Rows(NamedTuple):
    """Rows of a step: their slots and numbers of new tokens [B], the tokens [T], and what changes in the block tables for them."""

    slots: Ints
    counts: Ints
    tokens: Ints
    delta: TableDelta


class Launcher:
    """Makes the steps of one model. What it knows of openings is kept until `forget_openings`."""

    def __init__(self, model: str, tables: Tables, slots: Slots, stages: Stages, *, has_adapters: bool):
        self._model, self._tables, self._slots, self._stages, self._has_adapters = model, tables, slots, stages, has_adapters
        self._openings: Openings | None = None
        self._ones, self._all_sampled = np.ones_like(tables.lengths), np.full_like(tables.lengths, SAMPLED)
        self._ones.flags.writeable = self._all_sampled.flags.writeable = False  # steps share them

    @property
    def openings(self) -> Openings:
        if self._openings is None:
            slots = self._stages.decoding.slots
            is_open = self._tables.lengths[slots] < self._slots.text.limit[slots] - 1  # the last token is never read back
            slots = self._slots.without_tied(slots[is_open & ~self._slots.awaits[slots]])
            self._openings = Openings(slots, self._tables.full(slots))
        return self._openings

    def forget_openings(self) -> None:
        """Something of the model has changed."""
        self._openings = None

    def decodes(self, job: Job) -> Rows:
        """Rows that decode in the job, oldest first; takes the columns that they grow by."""
        if not job.decode:
            return self._decodes(_NO_SLOTS, _NO_SLOTS)
        slots, full = self.openings
        growing = np.flatnonzero(full)
        if not len(growing):
            return self._decodes(slots, _NO_SLOTS)
        grown, stalled = growing[: job.grow], growing[job.grow :]
        rows = self._decodes(np.delete(slots, stalled) if len(stalled) else slots, slots[grown])
        assert len(rows.slots), "a job decodes, but no sequence can"
        return rows

    def chunk(self, slot: int, count: int) -> Ints:
        """The next `count` tokens of a slot that are known and not computed."""
        start = self._tables.lengths[slot]
        assert start + count <= self._slots.text.known[slot], "a chunk goes past the tokens of its sequence"
        return self._slots.text.tokens[slot, start : start + count]

    def is_last_chunk(self, slot: int, count: int) -> bool:
        """With so many tokens more all that are known are computed."""
        return self._tables.lengths[slot] + count == self._slots.text.known[slot]

    def step(self, step_id: int, rows: Rows, job: Job, *, decodes: int) -> Step:
        """The step of a job's rows, the first `decodes` of which decode; from now on it is in flight."""
        slots, counts, tokens, delta = rows
        self._slots.flights[slots] += 1
        self.charge(slots, counts, decodes)
        starts = self._tables.lengths[slots]
        self._tables.lengths[slots] = starts + counts
        return Step(
            id=step_id,
            model=self._model,
            decodes=decodes,
            slots=slots,
            starts=starts,
            counts=counts,
            tokens=tokens,
            sampling=self._slots.sampling.take(slots),
            delta=delta,
            lane=job.lane,
            sm_share=job.sm_share,
            adapters=tuple(map(self._slots.adapters.get, slots.tolist())) if self._has_adapters else (),
        )

    def with_controls(self, step: Step) -> Step:
        """The step with what its rows and drafts want beyond being drawn."""
        controls = self._slots.controls
        return replace(step, controls=step_controls(controls, self._slots.text, step)) if controls else step

    def charge(self, slots: Ints, counts: Ints, decodes: int) -> None:
        """So many tokens of each row are service for its tenant; rows behind the first `decodes` are chunks."""
        if self._stages.waiting.contested:
            prices = np.where(np.arange(len(slots)) < decodes, OUTPUT_PRICE, PROMPT_PRICE)
            self._stages.waiting.charge(self._slots.payers[slots], counts * prices)

    def _decodes(self, slots: Ints, grown: Ints) -> Rows:
        return Rows(slots, self._ones[: len(slots)], self._all_sampled[: len(slots)], self._tables.grow(grown))


def joined(deltas: Iterable[TableDelta]) -> TableDelta:
    """All of these changes, in their order."""
    return TableDelta(*map(np.concatenate, zip(*deltas, strict=True)))
