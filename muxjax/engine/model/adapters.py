"""Which requests may begin while others compute with adapters: a step has no more different ones than the devices have places."""

from collections.abc import Iterable, Set
from math import inf

from muxjax.engine.model.sequence import Sequence
from muxjax.types import Adapter

OVERTAKING_S = 2.0
"""A request that waits for a place is overtaken by those with adapters that came up to so much after it, and by no others of them, so that
places get free for it. Requests without an adapter are in nobody's way."""


def admissible(waiting: Iterable[Sequence], running: Set[Adapter], places: int) -> list[Sequence]:
    """Those of the requests that wait, in their order, that may be admitted beside each other: all of them, or the first ones.

    Args:
      running: adapters of the sequences that are admitted.
    """
    beside, first_s = set(running), inf  # due of the first that waits for a place
    chosen: list[Sequence] = []
    for sequence in waiting:
        adapter, due_s = sequence.request.adapter, sequence.request.due_s
        if adapter is None:
            chosen.append(sequence)
        elif adapter not in beside and len(beside) == places:
            first_s = min(first_s, due_s)
        elif due_s <= first_s + OVERTAKING_S:
            chosen.append(sequence)
            beside.add(adapter)
    return chosen
