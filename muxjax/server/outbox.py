"""Outputs on their way from the engine to the texts of their choices."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice

from muxjax.server.choice import Choice, ChoiceOutput
from muxjax.types import Output

AT_ONCE = 8
"""Choices that are told in one pass of the event loop: half a millisecond of its time."""


class Outbox:
    """Hands outputs on: first tokens at once, the rest to a few choices in each pass of the event loop.

    A step's outputs may be hundreds, each with an event to be written. Were they all handed on together, whoever comes meanwhile would wait
    for all of them, once for every pass that its request takes: to be heard, read, taken in, and told its first token. What comes for a
    choice that still waits joins it, and both become one event; so the busier the loop is, the fewer events there are.

    Args:
      find: the choice of a request; None where nobody waits for it any more.
    """

    def __init__(self, find: Callable[[str], Choice | None]):
        self._find = find
        self._waiting: dict[str, list[ChoiceOutput]] = {}

    def add(self, outputs: Iterable[Output]) -> None:
        """Hands on what it may now; in the event loop."""
        is_idle = not self._waiting
        for output in outputs:
            choice = self._find(output.request_id)
            if choice is None:
                continue
            choice.admitted.advance(output)
            if choice.meter.has_begun or output.request_id in self._waiting:
                self._waiting.setdefault(output.request_id, []).append(ChoiceOutput(choice, output))
            else:
                choice.inbox.put(ChoiceOutput(choice, output))
        if is_idle:
            self._hand_on()

    def _hand_on(self) -> None:
        for request_id in list(islice(self._waiting, AT_ONCE)):
            for one in self._waiting.pop(request_id):
                one.choice.inbox.put(one)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._hand_on)
