"""The drafter of one model: which of a step's rows get drafts, and how many."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from muxjax.cache.table import Tables
from muxjax.engine.executor import SAMPLED, Step
from muxjax.engine.model.slots import Slots
from muxjax.engine.speculation.drafts import Drafts
from muxjax.engine.speculation.method import Speculation
from muxjax.engine.speculation.worth import Worth
from muxjax.engine.token_controls import TokenControls
from muxjax.types import Ints

_NOTHING = np.zeros(0, np.int32)


def takes_drafts(controls: TokenControls | None) -> bool:
    """A sequence with those controls may have drafts: all but penalties, which the device counts by the tokens that have been made."""
    return controls is None or controls.penalties is None


class Drafter:
    """Drafts for one model's steps, while they are worth it. While it speculates a step is launched when all before it are recorded:
    their tokens are what drafts follow."""

    def __init__(self, speculation: Speculation, tables: Tables, slots: Slots):
        self._speculation, self._tables, self._slots = speculation, tables, slots
        self._worth = Worth()
        self._waited_s = 0.0  # for drafts of the next step, by all its rows together

    @property
    def speculates(self) -> bool:
        """Drafts are made now; changes when a step is noted, and only then."""
        return self._worth.speculates(self._speculation.most_rows)

    def with_drafts(self, step: Step) -> Step:
        """A step that was just launched: its decodes' tokens where the host knows them, and drafts behind them.

        A slot whose last step had drafts sampled in several rows, and the device does not know which of them counts.
        """
        decodes, text = step.decodes, self._slots.text
        if not decodes:
            return step
        slots, tokens = step.slots[:decodes], step.tokens.copy()
        tokens[:decodes] = np.where(self._slots.flights[slots] > 1, SAMPLED, text.tokens[slots, step.starts[:decodes]])
        return replace(step, tokens=tokens, drafts=self._drafts(slots) if self.speculates else None)

    def note(self, step: Step, accepted: int, seconds: float) -> None:
        """A step has ended, with so many drafts that were right, and took so long."""
        if step.decodes:
            drafts = 0 if step.drafts is None else len(step.drafts)
            steps, self._waited_s = self._waited_s / max(seconds, 1e-6), 0.0
            most_rows = self._speculation.most_rows
            self._worth = self._worth.after(rows=step.decodes, drafts=drafts, accepted=accepted, waited=steps, most_rows=most_rows)

    def keep(self, slot: int, tokens: Ints, waited_s: float) -> None:
        """What the draft model has made for a slot, which waited for it; the first time it read the whole prompt, once for all drafts."""
        if self._slots.was_drafted[slot]:
            self._waited_s += waited_s
        self._slots.was_drafted[slot], self._slots.guesses[slot] = True, tokens

    def wanted(self, slots: Ints) -> Iterator[tuple[int, int]]:
        """Slots among these that a draft model is to be asked for, and for how many tokens: once before each of their steps, or one whose
        drafts are never made would wait again whenever others' steps end."""
        if self._speculation.draft_model and self.speculates:
            most = self._most(slots)
            for slot, count in zip(slots.tolist(), most.tolist(), strict=True):
                if count > 0 and slot not in self._slots.guesses:
                    yield slot, count

    def _drafts(self, slots: Ints) -> Drafts | None:
        return Drafts.of([self._guess(slot, count) for slot, count in zip(slots.tolist(), self._most(slots).tolist(), strict=True)])

    def _most(self, slots: Ints) -> Ints:
        """Drafts of each row, as many as fit: into its columns, into what it may still make, and into its part of the further rows."""
        text, controls = self._slots.text, self._slots.controls
        free = np.array([takes_drafts(controls.get(slot)) for slot in slots.tolist()])
        share = (self._speculation.most_rows - len(slots)) // max(1, np.count_nonzero(free))
        left = np.minimum(self._tables.room(slots), text.limit[slots] - text.known[slots] - 1)
        return np.where(free, np.minimum(left, min(share, self._speculation.most_drafts)), 0)

    def _guess(self, slot: int, most: int) -> Ints:
        if self._speculation.propose:
            return self._speculation.propose(self._slots.text.view(slot), most) if most > 0 else _NOTHING
        return self._slots.guesses.pop(slot, _NOTHING)[: max(most, 0)]
