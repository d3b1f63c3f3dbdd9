"""Rows of a static cache, given on when an answer's last token is launched."""

from scripts.baselines.engine import Request
from scripts.baselines.slots import Slots


def admitted(slots, *answers):
    return [slots.admit(Request([1, 2, 3], answer)) for answer in answers]


def step(slots):
    slots.advance()
    return slots.pop_ending()


def test_a_row_is_free_after_the_step_that_makes_the_last_token():
    slots = Slots(3)
    at_once, next_step, later = admitted(slots, 1, 2, 4)
    assert slots.pop_ending() == {at_once}
    assert slots.plan.tolist() == [[0, 3, 3], [0, 1, 1]]
    assert step(slots) == {next_step}
    assert slots.plan.tolist() == [[0, 0, 4], [0, 0, 1]]
    assert (step(slots), step(slots), slots.free) == (frozenset(), {later}, 3)


def test_the_first_free_row_is_taken():
    slots = Slots(3)
    admitted(slots, 2, 3, 4)
    assert [row.slot for row in step(slots)] == [0]
    (row,) = admitted(slots, 5)
    assert (row.slot, slots.span, slots.most_tokens) == (0, 3, 5)


def test_a_row_that_was_given_on_is_not_given_on_again():
    slots = Slots(1)
    (first,) = admitted(slots, 9)
    first.ended = True
    slots.release(first)
    (second,) = admitted(slots, 9)
    slots.release(first)
    assert (slots.free, slots.seats) == (0, ((second, 0),))
    assert all(step(slots) == frozenset() for _ in range(7))
    assert step(slots) == {second}


def test_rows_move_together_where_steps_can_be_smaller_for_it():
    slots = Slots(4)
    _, _, _, last = admitted(slots, 2, 2, 2, 9)
    assert slots.closer((1, 2, 4)) is None
    step(slots)
    assert slots.closer((1, 2, 4)) == (3, 0, 4)
    assert slots.closer((1, 2, 4)) is None
    assert (last.slot, slots.span, slots.plan[:, 0].tolist()) == (0, 1, [4, 1])


def test_seats_are_the_same_until_somebody_comes_or_goes():
    slots = Slots(2)
    admitted(slots, 3)
    seats = slots.seats
    step(slots)
    assert slots.seats is seats
    step(slots)
    assert slots.seats == ()
