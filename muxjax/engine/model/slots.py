"""Places of a model's running sequences, and what its steps need of each, as arrays over slots."""

import numpy as np

from muxjax.engine.executor import SAMPLING
from muxjax.engine.model.sequence import NO_SLOT, Sequence
from muxjax.engine.model.slot_text import SlotText
from muxjax.engine.token_controls import TokenControls
from muxjax.types import Adapter, Ints


class Slots:
    """Who has which slot. A sequence keeps its slot until its last step has landed.

    text: tokens by slot; flights [slots] int32: steps in flight that compute for a slot; payers [slots] int32: tenants, as in `Waiting`;
    sampling [slots] SAMPLING; controls: by slot, of the few that have any; adapters: by slot, of those that have one;
    awaits [slots] bool: a draft model drafts for it, and it does not decode meanwhile; guesses: by slot, what it
    has made since the last step; was_drafted [slots] bool: it has made some for the sequence.
    """

    def __init__(self, count: int, max_tokens: int):
        self.text = SlotText(count, max_tokens)
        self.flights = np.zeros(count, np.int32)
        self.payers = np.zeros(count, np.int32)
        self.sampling = np.zeros(count, SAMPLING)
        self.controls: dict[int, TokenControls] = {}
        self.adapters: dict[int, Adapter] = {}
        self.awaits = np.zeros(count, bool)
        self.guesses: dict[int, Ints] = {}
        self.was_drafted = np.zeros(count, bool)
        self._tied = np.zeros(count, bool)  # slots whose every step must know the token of the one before
        self._sequences: list[Sequence | None] = [None] * count
        self._request_ids = [""] * count
        self._free = list(range(count - 1, -1, -1))

    @property
    def free(self) -> int:
        """Slots that nobody has."""
        return len(self._free)

    def take(self, sequence: Sequence, payer: int) -> int:
        """A free slot, which is the sequence's from now on."""
        slot = sequence.slot = self._free.pop()
        self._sequences[slot], self._request_ids[slot] = sequence, sequence.request.id
        self.payers[slot] = payer
        self.sampling[slot] = sequence.sampling
        self.text.begin(slot, sequence.tokens, stops=sequence.stops, limit=sequence.request.most_tokens)
        if sequence.request.adapter:
            self.adapters[slot] = sequence.request.adapter
        if sequence.controls:
            self.controls[slot], self._tied[slot] = sequence.controls, sequence.controls.tied
        return slot

    def give(self, sequence: Sequence) -> None:
        """The sequence's slot is free again."""
        slot, sequence.slot = sequence.slot, NO_SLOT
        self._free.append(slot)
        self._sequences[slot] = None
        self.adapters.pop(slot, None)
        self.guesses.pop(slot, None)
        self.awaits[slot] = self.was_drafted[slot] = False
        self.controls.pop(slot, None)
        self._tied[slot] = False

    def sequence(self, slot: int) -> Sequence:
        """Sequence that has the slot."""
        sequence = self._sequences[slot]
        assert sequence is not None
        return sequence

    def request_ids(self, slots: Ints) -> list[str]:
        """Ids of the slots' requests."""
        return [self._request_ids[slot] for slot in slots.tolist()]

    def without_tied(self, slots: Ints) -> Ints:
        """The slots less those that wait for the token of a step in flight. Where all others are tied as well, they wait for these: two
        groups would take turns from then on, each of which reads all weights."""
        if not self.controls:
            return slots
        free = slots[~self._tied[slots] | (self.flights[slots] == 0)]
        return free if len(free) == len(slots) or not self._tied[free].all() else free[:0]
