"""An engine in its thread, on the device of dictionaries."""

import gc
import queue
import sys
import threading
import time
import weakref

import pytest

from muxjax.engine.engine import Engine
from muxjax.errors import RequestError
from muxjax.scheduler.policies import by_name
from muxjax.types import Finish, Output, Request, Sampling
from tests.engine.test_unit import LARGEST, LAYOUTS, make_unit
from tests.fake_device import FakeClock, FakeDevice, continuation

WAIT_S = 30


class Harness:
    """A running engine and what it said."""

    def __init__(self, executor=None, on_job=None, **options):
        self.device = executor or FakeDevice(LAYOUTS, FakeClock())
        self.engine = Engine(make_unit(total_blocks=2 * LARGEST), by_name("adbs"), self.device, **options)
        self.said: queue.SimpleQueue[list[Output]] = queue.SimpleQueue()
        if on_job is not None:
            self.engine.watch(on_job)
        self.engine.start(self.said.put)

    def submit(self, name: str, model: str = "a", max_tokens: int = 5) -> Request:
        request = Request(id=name, model=model, prompt=(1, 2), sampling=Sampling(max_tokens=max_tokens), arrival_s=time.monotonic())
        self.engine.submit(request)
        return request

    def until_ended(self, count: int) -> dict[str, list[Output]]:
        outputs: dict[str, list[Output]] = {}
        while sum(each[-1].finish is not None for each in outputs.values()) < count:
            for output in self.said.get(timeout=WAIT_S):
                outputs.setdefault(output.request_id, []).append(output)
        return outputs


@pytest.fixture
def harness():
    harness = Harness()
    yield harness
    harness.engine.stop()


class WaitingDevice(FakeDevice):
    """Its steps end when somebody lets them."""

    def __init__(self):
        super().__init__(LAYOUTS, FakeClock())
        self.go_on = threading.Event()

    def collect(self, *, wait: bool):
        self.go_on.wait(WAIT_S)
        return super().collect(wait=wait)


def test_requests_of_several_models_get_their_tokens(harness):
    requests = [harness.submit(str(i), "abc"[i % 3]) for i in range(9)]
    outputs = harness.until_ended(9)
    for request in requests:
        assert [output.token for output in outputs[request.id]] == continuation(request.model, request.prompt, 5)


class BusyDevice(FakeDevice):
    """Its first step does not end until another one could be launched."""

    def __init__(self):
        super().__init__(LAYOUTS, FakeClock())
        self.waits, self.woken = threading.Event(), threading.Event()

    def wake(self) -> None:
        if self.waits.is_set():
            self.woken.set()

    def collect(self, *, wait):
        if self._lanes and not self.woken.is_set():
            self.waits.set()
            assert self.woken.wait(WAIT_S)
            return []
        return super().collect(wait=wait)


def test_a_request_that_comes_while_the_engine_waits_for_a_step_is_looked_at_at_once():
    harness = Harness(BusyDevice())
    harness.submit("first", "a")
    assert harness.device.waits.wait(WAIT_S)
    harness.submit("second", "b")
    assert harness.until_ended(2).keys() == {"first", "second"}
    harness.engine.stop()


def test_a_cancelled_request_ends_once_and_its_blocks_are_free():
    harness = Harness(WaitingDevice())
    harness.submit("long", max_tokens=38)
    harness.engine.cancel("long")
    harness.engine.cancel("long")
    harness.engine.cancel("nobody")
    harness.device.go_on.set()
    outputs = harness.until_ended(1)
    assert [output.finish for output in outputs["long"]][-1] is Finish.ABORT
    assert harness.engine.drain(WAIT_S)
    assert harness.engine.stats().free_blocks == harness.engine.stats().total_blocks
    assert harness.said.empty()
    harness.engine.stop()


def test_a_draining_engine_ends_what_it_has_and_takes_no_more(harness):
    harness.submit("first")
    assert harness.engine.drain(WAIT_S)
    assert harness.until_ended(1)["first"][-1].finish is Finish.LENGTH
    with pytest.raises(RequestError) as refusal:
        harness.submit("second")
    assert refusal.value.status == 503


def test_what_can_never_be_served_is_refused_in_the_callers_thread(harness):
    with pytest.raises(RequestError, match="does not exist"):
        harness.submit("r", model="z")


def test_a_stopped_engine_has_ended_every_request():
    harness = Harness()
    harness.submit("long", max_tokens=38)
    harness.engine.stop()
    assert harness.until_ended(1)["long"][-1].finish in (Finish.ABORT, Finish.LENGTH)


class BrokenDevice(FakeDevice):
    def launch(self, step):
        raise RuntimeError("out of order")


def test_an_engine_that_dies_says_so_and_leaves_nobody_waiting(caplog):
    harness = Harness(BrokenDevice(LAYOUTS, FakeClock()))
    harness.submit("r")
    assert harness.until_ended(1)["r"][-1].finish is Finish.ABORT
    assert harness.engine.drain(WAIT_S) and not harness.engine.healthy
    assert "out of order" in caplog.text
    with pytest.raises(RequestError):
        harness.submit("later")


def test_what_an_engine_held_is_freed_after_its_stop():
    class Ring:
        def __init__(self):
            self.itself = self

    ring = Ring()
    seen = weakref.ref(ring)
    harness = Harness()
    del ring
    harness.engine.stop()
    gc.collect()
    assert seen() is None


def test_threads_get_their_turn_soon_beside_an_engine(harness):
    assert sys.getswitchinterval() <= 1e-3
