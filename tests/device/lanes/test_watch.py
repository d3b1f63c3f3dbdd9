"""A watch waits in the order in which it is given things, and tells of each."""

import threading

import pytest

from muxjax.device.lanes.watch import Watch


class Told:
    """What ended, and how often somebody was told."""

    def __init__(self):
        self.ended, self.times, self.all = [], 0, threading.Semaphore(0)

    def __call__(self):
        self.times += 1
        self.all.release()

    def wait_for(self, count):
        for _ in range(count):
            assert self.all.acquire(timeout=60)


@pytest.mark.parametrize("count", [1, 50])
def test_each_is_told_once_in_order_and_later_ones_too(count):
    told = Told()
    watch = Watch(told, "test")
    for begin in (0, count):  # the thread has run out of things in between
        for i in range(begin, begin + count):
            watch.add(lambda i=i: told.ended.append(i))
        told.wait_for(count)
    assert told.ended == list(range(2 * count)) and told.times == 2 * count


def test_one_that_fails_is_told_as_the_others_are():
    told = Told()
    watch = Watch(told, "test")
    watch.add(lambda: 1 / 0)
    watch.add(lambda: told.ended.append("next"))
    told.wait_for(2)
    assert told.ended == ["next"]


def test_what_is_added_while_it_waits_is_waited_for_behind_it():
    told, gate = Told(), threading.Event()
    watch = Watch(told, "test")
    watch.add(gate.wait)
    watch.add(lambda: told.ended.append("second"))
    assert not told.ended and not told.times
    gate.set()
    told.wait_for(2)
    assert told.ended == ["second"]
