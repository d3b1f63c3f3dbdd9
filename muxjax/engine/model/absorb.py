"""From what a step has sampled to outputs, and the ends of requests."""

from collections.abc import Iterator
from collections.abc import Sequence as Items
from itertools import accumulate, repeat
from typing import NamedTuple

import numpy as np

from muxjax.engine.executor import NOTHING_LEFT, Done, Step
from muxjax.engine.model.sequence import Sequence
from muxjax.engine.model.slots import Slots
from muxjax.engine.token_controls import take_outputs, take_prompts
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
    ends = step.starts + step.counts
    # A row sampled a token of use if it had consumed all that were known: not a prompt's earlier chunk.
    rows = (slots.text.open[step.slots] & (ends == slots.text.known[step.slots])).nonzero()[0]
    if step.controls:
        take_prompts(slots.controls, step, done)
    absorbed = _take_tokens(slots, step, done, step.slots[rows], rows, every_token=every_token)
    return absorbed if step.drafts is None else _joined([absorbed, *_take_drafts(slots, step, done, absorbed)])


def _take_tokens(slots: Slots, step: Step, done: Done, gained: Ints, places: np.ndarray, *, every_token: bool = True) -> Absorbed:
    """A token for each of those slots, from those places of what the step sampled."""
    tokens = done.tokens[places]
    stopped, full = slots.text.extend(gained, tokens)
    dry = tokens == NOTHING_LEFT
    ended = stopped | full | dry
    if not every_token and not step.controls and step.drafts is None:
        if step.phase is Phase.DECODE and not ended.any():
            return _NOTHING
        last = np.flatnonzero(ended | (places >= step.decodes))
        gained, tokens, stopped, ended = gained[last], tokens[last], stopped[last], ended[last]
    outputs = list(map(Output, slots.request_ids(gained), tokens.tolist(), repeat(None), repeat(done.at_s)))
    finishes = {i: Finish.STOP if stopped[i] else Finish.LENGTH for i in np.flatnonzero(ended).tolist()}
    if step.controls:
        outputs = [output._replace(token=None) if output.token == NOTHING_LEFT else output for output in outputs]
        outputs = take_outputs(slots.controls, done.logprobs, gained, places, outputs)
        finishes |= _own_finishes(slots, gained, outputs)
    return Absorbed(outputs, gained, [End(i, slots.sequence(int(gained[i])), finish) for i, finish in finishes.items()])


def _take_drafts(slots: Slots, step: Step, done: Done, absorbed: Absorbed) -> Iterator[Absorbed]:
    """The tokens behind drafts that were right, place by place: a row goes on as long as they are, and it has not ended.

    A right draft is the token sampled before it, as if it had been known: greedy or drawn, by the row's own seed and position, so answers
    do not depend on what is drafted, and tokens are distributed as without.
    Source: a coupling of draft and target by common random numbers (Daliri, Musco, Suresh, arXiv 2408.07978).
    """
    drafts = step.drafts
    assert drafts is not None
    right = drafts.right(done.tokens) & (done.tokens[len(step.slots) :] >= 0)  # where there is no token, the next step will say so
    for place in range(1, int(drafts.places.max()) + 1):
        going_on = np.setdiff1d(absorbed.slots, [end.sequence.slot for end in absorbed.ends])
        own = np.flatnonzero(right & (drafts.places == place) & np.isin(step.slots[drafts.rows], going_on))
        absorbed = _take_tokens(slots, step, done, step.slots[drafts.rows[own]], len(step.slots) + own)
        yield absorbed


def _joined(parts: Items[Absorbed]) -> Absorbed:
    """All of these, one after the other."""
    offsets = accumulate([len(part.outputs) for part in parts], initial=0)
    return Absorbed(
        [output for part in parts for output in part.outputs],
        np.concatenate([part.slots for part in parts]),
        [end._replace(output=offset + end.output) for offset, part in zip(offsets, parts, strict=False) for end in part.ends],
    )


def _own_finishes(slots: Slots, gained: Ints, outputs: list[Output]) -> dict[int, Finish]:
    """Ends that controls bring about, by the output's place: those without a token."""
    dry = (i for i, output in enumerate(outputs) if output.token is None)
    return {i: slots.controls[int(gained[i])].last_finish for i in dry}
