"""When a launch that failed is tried again."""

import errno

import pytest

from muxjax.device.lanes.launch_queue import GIVE_UP_S, LaunchQueue, passes, pause_s


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "too many open files"), MemoryError(), RuntimeError("random_device")])
def test_what_may_pass_is_tried_again(error):
    assert passes(error)


@pytest.mark.parametrize("error", [IndexError("row 7"), ValueError("no such shape"), AssertionError()])
def test_a_defect_is_not(error):
    assert not passes(error)


def test_pauses_grow_and_stay_short():
    pauses = [pause_s(tries) for tries in range(1, 2000)]
    assert pauses == sorted(pauses) and 0 < pauses[0] < pauses[1] and pauses[-1] <= 0.25


def test_a_queue_gives_up_by_time_and_begins_anew_with_the_next_step():
    now_s = [0.0]
    queue = LaunchQueue(lambda: now_s[0])
    queue.steps.extend(["first", "second"])
    while queue.failed(OSError()):
        assert not queue.is_due
        now_s[0] = queue.due_s
        assert queue.is_due
    assert GIVE_UP_S <= now_s[0] < GIVE_UP_S + 1
    assert queue.launched() == "first" and queue.is_due
    assert queue.failed(OSError()) and queue.tries == 1
