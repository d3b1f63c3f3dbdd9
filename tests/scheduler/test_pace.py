"""What is learned of steps' times is what they take, and bounds what a step may have."""

import pytest

from muxjax.scheduler.pace import UNKNOWN, slowness


def learned(step_s: float, token_s: float, steps: int = 200):
    """From steps in turn with and without prompt tokens."""
    pace = UNKNOWN
    for number in range(steps):
        tokens = 100 * (number % 3)
        pace = pace.after(tokens, step_s + tokens * token_s)
    return pace


def test_times_are_learned_and_follow_a_neighbour_that_comes():
    pace = learned(0.01, 1e-4)
    assert (pace.step_s, pace.token_s) == (pytest.approx(0.01), pytest.approx(1e-4))
    for _ in range(60):
        pace = pace.after(0, 0.02)
    assert pace.step_s == pytest.approx(0.02, rel=0.01)


def test_a_step_of_as_many_tokens_as_fit_takes_as_long_as_it_may():
    pace = learned(0.01, 1e-4)
    assert pace.tokens_within(0.04) == pytest.approx(300, rel=1e-3)
    assert pace.tokens_within(0.005) == 0
    assert UNKNOWN.tokens_within(0.01) == float("inf")


def test_a_first_token_waits_for_the_steps_before_it():
    assert learned(0.01, 1e-4).first_s(200) == pytest.approx(0.05, rel=1e-3)


def test_a_share_takes_as_much_longer_as_it_is_smaller():
    assert slowness((66, 132), 66) == 2.0
    assert slowness((66, 132), 132) == slowness((66, 132), None) == slowness((), 66) == 1.0
