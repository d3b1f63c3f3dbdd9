"""From what a step has sampled to outputs, and the ends of requests."""

from collections.abc import Sequence as Items
from itertools import repeat
from typing import NamedTuple

import numpy as np

from muxjax.engine.executor import NOTHING_LEFT, Done, Step
from muxjax.engine.model.sequence import Sequence
from muxjax.engine.model.slots import Slots
from muxjax.engine.token_controls import take_outputs
from muxjax.types import Finish, Ints, Output, Phase


class End(NamedTuple):
    """A sequence that a step has ended, with its output's place among those of the step."""

    output: int
    sequence: Sequence
    finish: Finish


class Absorbed(NamedTuple):
    """Outputs of a step, their slots, and the ends among them, which the outputs do not say yet."""

    outputs: list[Output]
    slots: Ints
    ends: Items[End]


_NOTHING = Absorbed([], np.zeros(0, np.int32), ())


def absorb(slots: Slots, step: Step, done: Done, *, every_token: bool) -> Absorbed:
    """Takes in what the step sampled: an output a row that gained a token, or has none left that its controls allow, and behind all of
    these one for each further token that a row owes to a draft.

    Args:
      every_token: as of `Unit`: else there are only outputs of prefills, of ends, and of steps with controls or drafts.
    """
    absorbed = _absorb_rows(slots, step, done, every_token=every_token or step.drafts is not None)
    return absorbed if step.drafts is None else _absorb_drafts(slots, step, done, absorbed)


def _absorb_rows(slots: Slots, step: Step, done: Done, *, every_token: bool) -> Absorbed:
    """The tokens behind those that the rows had to compute."""
    ends = step.starts + step.counts
    # A row sampled a token of use if it had consumed all that were known: not a prompt's earlier chunk.
    rows = (slots.text.open[step.slots] & (ends == slots.text.known[step.slots])).nonzero()[0]
    gained, tokens = step.slots[rows], done.tokens[rows]
    stopped, full = slots.text.extend(gained, tokens)
    dry = tokens == NOTHING_LEFT
    ended = stopped | full | dry
    if not every_token and not step.controls:
        if step.phase is Phase.DECODE and not ended.any():
            return _NOTHING
        last = np.flatnonzero(ended | (rows >= step.decodes))
        gained, tokens, stopped, ended = gained[last], tokens[last], stopped[last], ended[last]
    outputs = list(map(Output, slots.request_ids(gained), tokens.tolist(), repeat(None), repeat(done.at_s)))
    finishes = {i: Finish.STOP if stopped[i] else Finish.LENGTH for i in np.flatnonzero(ended).tolist()}
    if step.controls:
        outputs = [output._replace(token=None) if output.token == NOTHING_LEFT else output for output in outputs]
        outputs = take_outputs(slots.controls, step, done, rows, outputs)
        finishes |= _own_finishes(slots, gained, outputs)
    return Absorbed(outputs, gained, [End(i, slots.sequence(gained[i]), finish) for i, finish in finishes.items()])


def _absorb_drafts(slots: Slots, step: Step, done: Done, first: Absorbed) -> Absorbed:
    """The tokens behind drafts that were right, place by place: a row goes on as long as they are, and it has not ended.

    A right draft is the token sampled before it, as if it had been known: greedy or drawn, by the row's own seed and position, so answers
    do not depend on what is drafted, and tokens are distributed as without.
    Source: a coupling of draft and target by common random numbers (Daliri, Musco, Suresh, arXiv 2408.07978).
    """
    drafts, drafted = step.drafts, done.drafted
    assert drafts is not None and drafted is not None, "a step with drafts says what it sampled behind them"
    right = drafts.right(done.tokens, drafted) & (drafted >= 0)  # where the logits are not finite, the next step will say so
    open_slots = np.setdiff1d(first.slots, [end.sequence.slot for end in first.ends])
    outputs, gained, ends = first.outputs, [first.slots], [*first.ends]
    for place in range(1, int(drafts.places.max()) + 1):
        own = np.flatnonzero(right & (drafts.places == place) & np.isin(step.slots[drafts.rows], open_slots))
        open_slots, tokens = step.slots[drafts.rows[own]], drafted[own]
        stopped, full = slots.text.extend(open_slots, tokens)
        for i in np.flatnonzero(stopped | full).tolist():
            ends.append(End(len(outputs) + i, slots.sequence(open_slots[i]), Finish.STOP if stopped[i] else Finish.LENGTH))
        outputs = outputs + list(map(Output, slots.request_ids(open_slots), tokens.tolist(), repeat(None), repeat(done.at_s)))
        gained.append(open_slots)
        open_slots = open_slots[~(stopped | full)]
    return Absorbed(outputs, np.concatenate(gained), ends)


def _own_finishes(slots: Slots, gained: Ints, outputs: list[Output]) -> dict[int, Finish]:
    """Ends that controls bring about, by the output's place: those without a token."""
    dry = (i for i, output in enumerate(outputs) if output.token is None)
    return {i: slots.controls[int(gained[i])].last_finish for i in dry}
