"""An engine whose device does not answer, or answers nonsense."""

import threading

import pytest

from muxjax.engine.stats import Status
from muxjax.engine.watchdog import Watchdog
from muxjax.errors import RequestError
from muxjax.types import Finish
from tests.engine.test_engine import WAIT_S, Harness, WaitingDevice
from tests.engine.test_unit import LAYOUTS
from tests.fake_device import FakeClock
from tests.faulty_device import BROKEN, FaultyDevice

SHORT_S = 0.05


@pytest.fixture
def waiting():
    harness = Harness(WaitingDevice(), step_timeout_s=SHORT_S)
    yield harness
    harness.device.go_on.set()
    harness.engine.stop()


def until(holds) -> None:
    pause = threading.Event()
    for _ in range(int(WAIT_S / 0.01)):
        if holds():
            return
        pause.wait(0.01)
    raise AssertionError("it never came to be")


def test_a_stuck_step_is_noticed_and_so_is_its_end(waiting, caplog):
    assert waiting.engine.healthy
    waiting.submit("r")
    until(lambda: not waiting.engine.healthy)
    until(lambda: "the device is stuck" in caplog.text)
    assert "a step of a on lane 0 has been in flight" in caplog.text
    waiting.device.go_on.set()
    assert waiting.until_ended(1)["r"][-1].finish is Finish.LENGTH
    until(lambda: waiting.engine.healthy and "the device goes on" in caplog.text)


def test_an_idle_engine_is_never_stuck(waiting):
    waiting.device.go_on.set()
    waiting.submit("r")
    waiting.until_ended(1)
    threading.Event().wait(4 * SHORT_S)
    assert waiting.engine.healthy


def test_a_stuck_engine_can_be_stopped(waiting):
    waiting.submit("r")
    until(lambda: not waiting.engine.healthy)
    waiting.engine.stop()
    with pytest.raises(RequestError, match="takes no more"):
        waiting.submit("later")


def test_an_id_in_use_is_refused_and_free_again_after_its_end():
    harness = Harness(WaitingDevice())
    harness.submit("same", max_tokens=38)
    with pytest.raises(RequestError, match="in use") as refusal:
        harness.submit("same")
    assert refusal.value.status == 409
    harness.device.go_on.set()
    harness.until_ended(1)
    harness.submit("same")
    assert harness.until_ended(1)["same"][-1].finish is Finish.LENGTH and harness.engine.healthy
    harness.engine.stop()


def test_the_engine_outlives_a_model_that_fails():
    harness = Harness(FaultyDevice(LAYOUTS, FakeClock(), faults={0: BROKEN}))
    first = harness.submit("first", "a")
    assert harness.until_ended(1)[first.id][-1].finish is Finish.FAILED
    with pytest.raises(RequestError) as refusal:
        harness.submit("second", "a")
    assert (refusal.value.status, refusal.value.code) == (503, "model_failed")
    harness.submit("third", "b")
    assert harness.until_ended(1)["third"][-1].finish is Finish.LENGTH and harness.engine.healthy
    assert [model.status for model in harness.engine.stats().models] == [Status.FAILED, *[Status.READY] * (len(LAYOUTS) - 1)]
    harness.engine.stop()


def test_a_model_drains_and_the_others_take_requests():
    harness = Harness()
    for i in range(6):
        harness.submit(str(i), "ab"[i % 2], max_tokens=30)
    harness.engine.drain_model("a", WAIT_S)
    with pytest.raises(RequestError, match="draining"):
        harness.submit("late", "a")
    harness.submit("other", "b")
    outputs = harness.until_ended(7)
    assert all(each[-1].finish is Finish.LENGTH for each in outputs.values())
    harness.engine.stop()


def test_a_model_that_does_not_drain_in_time_has_its_requests_ended():
    harness = Harness(WaitingDevice())
    harness.submit("long", "a", max_tokens=38)
    drained = threading.Thread(target=harness.engine.drain_model, args=("a", 0.0))
    drained.start()
    harness.device.go_on.set()
    drained.join(WAIT_S)
    assert not drained.is_alive() and harness.until_ended(1)["long"][-1].finish in (Finish.ABORT, Finish.LENGTH)
    harness.engine.stop()


def test_an_action_that_raises_is_told_to_who_asked_for_it():
    harness = Harness()
    with pytest.raises(ZeroDivisionError):
        harness.engine.do(lambda: 1 / 0)
    assert harness.engine.do(lambda: 7) == 7 and harness.engine.healthy
    harness.engine.stop()
    with pytest.raises(RequestError, match="stopped"):
        harness.engine.do(lambda: 7)


def test_a_policy_with_a_defect_ends_the_engine_and_every_request():
    harness, submitted = Harness(), threading.Event()
    harness.engine._policy = lambda view: submitted.wait(WAIT_S) and 1 / 0
    for i in range(5):
        harness.submit(str(i), "abc"[i % 3])
    submitted.set()
    outputs = harness.until_ended(5)
    assert all([output.finish for output in each] == [Finish.ABORT] for each in outputs.values())
    assert not harness.engine.healthy
    with pytest.raises(RequestError):
        harness.engine.do(lambda: 7)


def test_who_stops_the_watch_first_is_told_that_the_device_is_stuck(caplog):
    watchdog = Watchdog(lambda: 5.0, lambda: "a step", limit_s=4.0)  # whose thread would look in a second
    watchdog.start()
    watchdog.stop()
    watchdog.stop()
    assert caplog.text.count("the device is stuck") == 1
