"""Compiling pauses where steps take much longer beside it, goes on where they do not, and learns first what they take alone."""

import time

import pytest

from muxjax.engine.job_records import JobRecord
from muxjax.launch.build_pace import FEWEST, FIRST_REST_S, LEARN_S, MOST_REST_S, BuildPacer, Pace, StepKind, next_pace, slowdown

DECODE, PREFILL = StepKind("m", "decode", 3), StepKind("m", "prefill", 9)


def times(quick_s: float, slow_s: float, count: int = 200) -> list[float]:
    """So many steps, of which every twentieth is slow."""
    return [slow_s if i % 20 == 0 else quick_s for i in range(count)]


ALONE = {DECODE: times(0.010, 0.012), PREFILL: times(0.100, 0.120)}


def test_steps_are_compared_with_those_of_their_kind():
    """Ten times as many prefills beside are no slowdown, though the mean step is longer."""
    assert slowdown(ALONE, {DECODE: times(0.010, 0.012, 20), PREFILL: times(0.100, 0.120)}) == pytest.approx(1.0)
    assert slowdown(ALONE, {DECODE: times(0.010, 0.018), PREFILL: times(0.100, 0.120)}) == pytest.approx(1.5)


def test_too_few_steps_tell_nothing():
    assert slowdown({DECODE: times(0.010, 0.012, FEWEST - 1)}, ALONE) is None
    assert slowdown(ALONE, {DECODE: times(0.010, 0.012, FEWEST - 1)}) is None
    assert slowdown({}, ALONE) is None


def test_compiling_goes_on_while_few_steps_run():
    assert next_pace(Pace(), {}, {DECODE: times(1.0, 9.0, FEWEST - 1)}, 7.0) == Pace()


def test_what_steps_take_alone_is_learnt_in_a_short_pause():
    assert next_pace(Pace(), {}, ALONE, 7.0).paused_until_s == 7.0 + LEARN_S


@pytest.mark.parametrize(("slow_s", "pauses"), [(0.012 * 1.25, False), (0.012 * 1.35, True)])
def test_compiling_pauses_where_the_99th_percentile_is_more_than_the_limit(slow_s, pauses):
    after = next_pace(Pace(), ALONE, {DECODE: times(0.010, slow_s)}, 7.0)

    assert after.paused_until_s == (7.0 + FIRST_REST_S if pauses else None)


def test_pauses_grow_while_they_do_not_help_and_begin_anew_when_they_do():
    slow, pace, rests = {DECODE: times(0.020, 0.030)}, Pace(), []
    for _ in range(6):
        pace = next_pace(pace, ALONE, slow, 100.0)
        assert pace.paused_until_s is not None
        rests.append(pace.paused_until_s - 100.0)
        assert next_pace(pace, ALONE, slow, pace.paused_until_s - 0.1) == pace
        pace = next_pace(pace, ALONE, slow, pace.paused_until_s)
        assert pace.paused_until_s is None
    assert rests == [5, 10, 20, 40, MOST_REST_S, MOST_REST_S]
    assert next_pace(pace, ALONE, {DECODE: times(0.010, 0.012)}, 200.0) == Pace()


class FakeDevices:
    """Devices that say whether they may build."""

    def __init__(self):
        self.heard: list[str] = []

    def pause_building(self) -> None:
        self.heard.append("pause")

    def resume_building(self) -> None:
        self.heard.append("resume")


def step(seconds: float) -> JobRecord:
    now_s = time.monotonic()
    return JobRecord(model="m", phase="decode", start_s=now_s, end_s=now_s + seconds, rows=4, tokens=4, prefills=())


def test_slow_steps_pause_what_is_built_and_the_end_lets_it_go():
    devices = FakeDevices()
    pacer = BuildPacer(devices)  # pyright: ignore[reportArgumentType]
    for _ in range(FEWEST):
        pacer.note(step(0.010))
    with pacer.watching():
        deadline_s = time.monotonic() + 60
        while "pause" not in devices.heard and time.monotonic() < deadline_s:
            pacer.note(step(0.030))
            time.sleep(0.001)
    assert devices.heard == ["pause", "resume"]


def test_steps_that_are_as_quick_as_before_pause_nothing():
    devices = FakeDevices()
    pacer = BuildPacer(devices)  # pyright: ignore[reportArgumentType]
    for _ in range(FEWEST):
        pacer.note(step(0.010))
    with pacer.watching():
        for _ in range(3 * FEWEST):
            pacer.note(step(0.010))
            time.sleep(0.005)
    assert devices.heard == ["resume"]
