"""Workers and fronts that are killed, stopped and stuck under load: no token is lost, doubled or wrong."""

import asyncio
import contextvars
import os
import random
import signal
from dataclasses import replace

import pytest

from muxjax.cluster import remote_unit
from muxjax.cluster.launcher import born
from muxjax.cluster.remote_unit import UnitState
from muxjax.errors import RequestError
from muxjax.types import Finish
from tests.cluster.fake_worker import DEVICE
from tests.cluster.kit import check, cluster, in_loop, unit


@in_loop
async def test_requests_of_all_units_get_their_tokens(tmp_path):
    async with cluster(tmp_path, unit("0", "a", "b"), unit("1", "b", "c")) as (asked, _):
        for i in range(30):
            asked.ask(f"r{i}", "abc"[i % 3])
        await asked.ended()
        check(asked)


@in_loop
async def test_a_killed_worker_costs_no_token(tmp_path):
    async with cluster(tmp_path, unit("0", "a"), unit("1", "b")) as (asked, launcher):
        for i in range(20):
            asked.ask(f"r{i}", "ab"[i % 2], max_tokens=100)
        await asked.until(lambda: asked.begun("r0", 20))
        launcher.kill("0")
        await asked.ended()
        check(asked)
        assert launcher.started == ["0", "1", "0"]  # the other one was left alone


@in_loop
async def test_a_replica_goes_on_at_once(tmp_path):
    async with cluster(tmp_path, unit("0", "a"), unit("1", "a")) as (asked, launcher):
        for i in range(16):
            asked.ask(f"r{i}", "a", max_tokens=100)
        await asked.until(lambda: all(asked.begun(f"r{i}", 5) for i in range(16)))
        launcher.kill("1")
        await asked.ended()
        check(asked)


@in_loop
async def test_a_stopped_process_is_noticed_by_its_silence(tmp_path):
    async with cluster(tmp_path, unit("0", "a"), silence_s=2.0) as (asked, launcher):
        asked.ask("r", "a", max_tokens=100)
        await asked.until(lambda: asked.begun("r", 5))
        launcher.kill("0", signal.SIGSTOP)
        await asked.ended()
        check(asked)


@in_loop
async def test_a_stuck_step_has_the_worker_started_again(tmp_path):
    async with cluster(tmp_path, unit("0", "a", step_timeout_s=0.5)) as (asked, _):
        asked.ask("r", "a", max_tokens=100)
        await asked.until(lambda: asked.begun("r", 5))
        (tmp_path / "stuck").touch()
        await asked.until(lambda: asked.engine.units["0"].state is UnitState.RESTARTING)
        (tmp_path / "stuck").unlink()
        await asked.ended()
        check(asked)


@in_loop
async def test_a_unit_that_was_ready_each_time_bears_one_start_that_comes_to_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(remote_unit, "PAUSES_S", (0.0, 0.0))
    async with cluster(tmp_path, unit("0", "a")) as (asked, launcher):
        only = asked.engine.units["0"]
        for starts in (2, 3):
            launcher.kill("0")
            await asked.until(lambda starts=starts: only.starts == starts and only.state is UnitState.READY)
        launcher.kill("0")
        await asked.until(lambda: only.starts == 4 and only.state is UnitState.RESTARTING and bool(launcher.pid("0")))
        launcher.kill("0")
        await asked.until(lambda: not only.state.is_coming)
        assert only.state is UnitState.READY


@in_loop
async def test_a_worker_s_life_is_told_beside_no_request(tmp_path):
    asking = contextvars.ContextVar("asking", default="nobody")
    asking.set("whoever has asked for another placement")
    told: list[str] = []
    async with cluster(tmp_path, unit("0", "a")) as (asked, launcher):
        asked.engine.units["0"]._report = lambda line: told.append(asking.get())
        launcher.kill("0")
        await asked.until(lambda: len(told) > 1)
    assert set(told) == {"nobody"}


@in_loop
async def test_requests_that_come_while_a_worker_is_away_wait_for_it(tmp_path):
    async with cluster(tmp_path, unit("0", "a")) as (asked, launcher):
        launcher.kill("0")
        await asked.until(lambda: asked.engine.units["0"].state is UnitState.RESTARTING)
        asked.ask("late", "a")
        asked.ask("given up", "a")
        asked.engine.cancel("given up")
        assert asked.told["given up"][-1].finish is Finish.ABORT
        del asked.requests["given up"]
        await asked.ended()
        check(asked)


@in_loop
async def test_a_request_cancelled_on_a_lost_unit_does_not_come_back(tmp_path):
    (tmp_path / "slow").touch()  # it does not end before it is cancelled
    async with cluster(tmp_path, unit("0", "a")) as (asked, launcher):
        asked.ask("r", "a", max_tokens=300)
        await asked.until(lambda: asked.begun("r"))
        launcher.kill("0", signal.SIGSTOP)
        asked.engine.cancel("r")
        launcher.kill("0")
        await asked.ended()
        assert asked.told["r"][-1].finish is Finish.ABORT


@in_loop
async def test_a_front_that_is_gone_leaves_its_workers_to_the_next(tmp_path):
    async with cluster(tmp_path, unit("0", "a"), unit("1", "b")) as (asked, launcher):
        asked.ask("cut", "a", max_tokens=300)
        await asked.until(lambda: asked.begun("cut", 5))
        pids = launcher.pid("0"), launcher.pid("1")
        await asked.engine.leave()
        async with cluster(tmp_path, unit("0", "a"), unit("1", "b")) as (second, launcher):
            assert (launcher.pid("0"), launcher.pid("1")) == pids
            assert launcher.started == []
            for i in range(10):
                second.ask(f"r{i}", "ab"[i % 2])
            await second.ended()
            check(second)
            await second.until(lambda: second.engine.stats().models[0].running == 0)  # nobody computes what nobody waits for
    assert not (launcher.pid("0") or launcher.pid("1"))


@in_loop
async def test_a_worker_that_serves_something_else_is_replaced(tmp_path):
    async with cluster(tmp_path, unit("0", "a")) as (asked, launcher):
        before = launcher.pid("0")
        await asked.engine.leave()
        async with cluster(tmp_path, unit("0", "b")) as (second, launcher):
            assert launcher.pid("0") != before
            second.ask("r", "b")
            await second.ended()
            check(second)


@in_loop
async def test_a_unit_that_cannot_start_leaves_the_others_serving(tmp_path):
    async with cluster(tmp_path, unit("0", "a"), unit("1", "never"), unit("2", "broken")) as (asked, launcher):
        assert asked.engine.states() == {"a": "ready", "never": "failed", "broken": "failed"}
        assert launcher.started.count("1") == 1  # bad input is not tried again
        with pytest.raises(RequestError, match="never can be built") as error:
            asked.ask("r", "never")
        assert (error.value.status, error.value.code) == (503, "model_failed")
        del asked.requests["r"]
        asked.ask("fine", "a")
        await asked.ended()
        check(asked)


@in_loop
async def test_a_unit_without_devices_waits_for_some_and_its_requests_do_not(tmp_path):
    async with cluster(tmp_path, unit("0", "a"), unit("1", "b")) as (asked, launcher):
        launcher.is_full = True
        (tmp_path / "slow").touch()  # it does not end before it is lost
        asked.ask("lost", "a", max_tokens=300)
        await asked.until(lambda: asked.begun("lost"))
        launcher.kill("0")
        (tmp_path / "slow").unlink()
        await asked.ended()
        assert asked.told["lost"][-1].finish is Finish.FAILED
        assert asked.engine.states() == {"a": "failed", "b": "ready"} and asked.engine.healthy
        with pytest.raises(RequestError, match="all devices are taken") as error:
            asked.ask("refused", "a")
        assert error.value.code == "model_failed"
        launcher.is_full = False
        await asked.until(lambda: asked.engine.states()["a"] == "ready")
        del asked.requests["lost"], asked.requests["refused"]
        asked.ask("r", "a")
        await asked.ended()
        check(asked)


@in_loop
async def test_a_drain_lets_requests_end_wherever_they_are(tmp_path):
    async with cluster(tmp_path, unit("0", "a"), unit("1", "b")) as (asked, _):
        for i in range(6):
            asked.ask(f"r{i}", "ab"[i % 2], max_tokens=60)
        assert await asyncio.to_thread(asked.engine.drain, 30.0)
        check(asked)
        with pytest.raises(RequestError, match="no more requests"):
            asked.ask("late", "a")


@in_loop
async def test_chaos(tmp_path):
    """Killed again and again, at random, while requests come and some are cancelled."""
    draw = random.Random(1)
    async with cluster(tmp_path, unit("0", "a", "b"), unit("1", "b", "c")) as (asked, launcher):
        cancelled = set()
        for i in range(120):
            asked.ask(f"r{i}", draw.choice("abc"), max_tokens=draw.randint(1, 80))
            if draw.random() < 0.1:
                cancelled.add(f"r{i}")
                asked.engine.cancel(f"r{i}")
            if i % 40 == 20:
                launcher.kill(draw.choice("01"))
            await asyncio.sleep(draw.random() * 0.05)
        await asked.ended()
        for name in cancelled:
            assert asked.tokens(name) == asked.expected(name)[: len(asked.tokens(name))]
            del asked.requests[name]
        check(asked)


@in_loop
async def test_what_a_worker_has_started_ends_with_it(tmp_path):
    """A worker's compilers, which may be stopped to leave others the processors, are of its group."""
    async with cluster(tmp_path, unit("0", "a")) as (asked, launcher):
        child = int((tmp_path / "child").read_text())
        os.kill(child, signal.SIGSTOP)
        launcher.kill("0")
        await asked.until(lambda: not born(child))
        await asked.until(lambda: asked.engine.units["0"].state is UnitState.READY)


@in_loop
async def test_a_placement_for_other_chips_is_not_served_on_these(tmp_path, monkeypatch):
    monkeypatch.setenv(DEVICE, "NVIDIA H100 80GB HBM3")
    async with cluster(tmp_path, unit("0", "a"), replace(unit("1", "b"), chip="H200")) as (asked, _):
        await asked.until(lambda: asked.engine.states() == {"a": "ready", "b": "failed"})
        with pytest.raises(RequestError, match="the placement is for H200, and the device is NVIDIA H100"):
            asked.ask("r", "b")
