"""The order and the measure in which outputs are handed on."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from muxjax.server.choice import Choice
from muxjax.server.outbox import AT_ONCE, Outbox
from muxjax.types import Output


class Told:
    """Choices that write down what comes to them; those of even numbers have begun."""

    def __init__(self, count: int):
        self.outputs: list[tuple[str, int | None]] = []
        self.choices = {str(i): self._choice(has_begun=i % 2 == 0) for i in range(count)}
        self.outbox = Outbox(self.choices.get)

    def _choice(self, *, has_begun: bool) -> Choice:
        put: Callable[[Any], None] = lambda one: self.outputs.append((one.output.request_id, one.output.token))  # noqa: E731
        place = SimpleNamespace(advance=lambda output: None)
        choice = SimpleNamespace(meter=SimpleNamespace(has_begun=has_begun), admitted=place, inbox=SimpleNamespace(put=put))
        return cast(Choice, choice)

    def add(self, *outputs: tuple[int, int]) -> None:
        self.outbox.add([Output(str(number), token, None, 0.0) for number, token in outputs])


def passes(play: Callable[[], object], told: Told) -> list[int]:
    """How much was told after the play, and after each pass of the event loop behind it."""

    async def run() -> list[int]:
        play()
        counts = [len(told.outputs)]
        for _ in range(4):
            await asyncio.sleep(0)
            counts.append(len(told.outputs))
        return counts

    return asyncio.run(run())


def test_first_tokens_are_told_before_those_of_streams_that_have_some():
    told = Told(4)
    passes(lambda: told.add((0, 7), (1, 8), (2, 9), (3, 10)), told)
    assert told.outputs == [("1", 8), ("3", 10), ("0", 7), ("2", 9)]


def test_a_few_streams_are_told_in_each_pass_of_the_loop():
    told = Told(2 * (3 * AT_ONCE - 5))
    counts = passes(lambda: told.add(*((2 * i, i) for i in range(3 * AT_ONCE - 5)), (1, 0)), told)
    assert counts == [AT_ONCE + 1, 2 * AT_ONCE + 1, 3 * AT_ONCE - 4, 3 * AT_ONCE - 4, 3 * AT_ONCE - 4]


def test_what_comes_for_a_stream_that_waits_joins_it_in_order():
    told = Told(4 * AT_ONCE)

    def play() -> None:
        told.add(*((2 * i, 1) for i in range(AT_ONCE + 2)))
        told.add(*((2 * i, 2) for i in range(AT_ONCE + 2)), (1, 5))

    counts = passes(play, told)
    assert told.outputs[AT_ONCE] == ("1", 5)  # a first token waits for nobody
    last = str(2 * (AT_ONCE + 1))
    assert [token for number, token in told.outputs if number == last] == [1, 2]
    assert told.outputs.index((last, 2)) == told.outputs.index((last, 1)) + 1 and counts[-1] == 2 * (AT_ONCE + 2) + 1


def test_what_nobody_waits_for_is_dropped():
    told = Told(1)
    passes(lambda: told.add((0, 1), (5, 2)), told)
    assert told.outputs == [("0", 1)]
