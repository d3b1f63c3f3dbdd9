"""Requests that miss their target of a first token wait behind those that may meet it, and not for ever."""

import pytest

from muxjax.engine.model.config import ModelConfig
from muxjax.engine.model.sequence import Sequence
from muxjax.engine.model.waiting import LATE_TURN, Waiting
from muxjax.types import Request, Sampling
from tests.engine.test_unit import LAYOUTS

CONFIG = ModelConfig(name="a", layout=next(iter(LAYOUTS.values())), slots=4, max_tokens=64)


def waiting_of(*arrivals_s: float, **changes) -> Waiting:
    waiting = Waiting()
    for arrival_s in arrivals_s:
        request = Request(id=f"{arrival_s:g}", model="a", prompt=(1,), sampling=Sampling(), arrival_s=arrival_s, **changes)
        waiting.add(Sequence.of(request, CONFIG))
    return waiting


def names(sequences: list[Sequence]) -> list[str]:
    return [sequence.request.id for sequence in sequences]


def within_a_second(sequence: Sequence) -> float:
    return sequence.request.arrival_s + 1.0


def test_the_late_wait_behind_the_timely():
    waiting = waiting_of(1, 2, 3, 4)

    assert waiting.give_up(within_a_second, 3.5) == 4
    assert names(waiting.first(4)) == ["3", "4", "1", "2"] and waiting.oldest_s == 1 and len(waiting) == 4
    assert waiting.give_up(within_a_second, 9.0) == float("inf")
    assert names(waiting.first(9)) == ["1", "2", "3", "4"]


def test_one_in_so_many_is_a_late_one_however_many_are_timely():
    waiting = waiting_of(*range(1, 4), *range(100, 200))
    waiting.give_up(within_a_second, 50.0)
    admitted = []
    for _ in range(2 * LATE_TURN):
        (first,) = waiting.first(1)
        waiting.remove(first)
        admitted.append(first.request.id)

    assert [admitted[LATE_TURN - 1], admitted[2 * LATE_TURN - 1]] == ["1", "2"]
    assert names(waiting_of(*range(1, 4), *range(100, 200)).first(3)) == ["1", "2", "3"]


def test_a_request_that_has_begun_is_not_late():
    waiting = waiting_of(1, 2)
    sequence = waiting.first(1)[0]
    waiting.remove(sequence)
    sequence.tokens = [*sequence.tokens, 7]  # pyright: ignore[reportAttributeAccessIssue]
    waiting.add(sequence)

    waiting.give_up(within_a_second, 1.5)
    assert names(waiting.first(2)) == ["1", "2"]


@pytest.mark.parametrize("priority", [-5, 5])
def test_lateness_counts_from_the_arrival_whatever_the_priority(priority):
    waiting = waiting_of(1, 2, priority=priority)

    assert waiting.give_up(within_a_second, 1.5) == 2
