"""Faults at the worst moment: none leaves a request, a call, a state or a process behind."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from muxjax.cluster import launcher, remote_unit
from muxjax.cluster.launcher import LocalLauncher, born, socket_folder
from muxjax.cluster.lifecycle import ClusterLifecycle
from muxjax.cluster.mover import Mover
from muxjax.cluster.remote_unit import UnitState
from muxjax.cluster.unit_host import UnitHost
from muxjax.cluster.wire import link
from muxjax.cluster.wire.frames import frame
from muxjax.cluster.wire.messages import PROTOCOL, Broken, Hello, Load, Pulse, Refused, Submit, encode
from muxjax.engine.options import ModelOptions
from muxjax.errors import ConfigError, RequestError
from muxjax.server.plans.placing import Placing
from muxjax.types import Finish, Request, Sampling
from tests.cluster.kit import WAIT_S, Asked, FakeLauncher, check, cluster, in_loop, unit


def is_clean(asked: Asked) -> bool:
    """Nothing is kept of requests that have ended."""
    return not len(asked.engine._ledger) and not any(one.outstanding_tokens or one._calls for one in asked.engine.units.values())


@in_loop
async def test_a_call_ends_with_its_unit(tmp_path, monkeypatch):
    async with cluster(tmp_path, unit("0", "a")) as (asked, _):
        one = asked.engine.units["0"]
        with monkeypatch.context() as patch:
            patch.setattr(one, "send", lambda message: None)
            call = asyncio.create_task(one.call(lambda number: Load(number, ModelOptions(name="b", path=Path("/none")))))
            await asyncio.sleep(0)
        await one.stop()
        with pytest.raises(ConfigError, match="stopped"):
            await asyncio.wait_for(call, WAIT_S)
        assert is_clean(asked)


@in_loop
async def test_a_cluster_that_ends_during_a_change_starts_no_unit(tmp_path):
    async with cluster(tmp_path, unit("0", "a"), unit("1", "b", devices=(1,))) as (asked, launcher):
        move = asyncio.create_task(Mover(asked.engine, drain_s=0.1).move([unit("0-1", "a", "b", devices=(0, 1))]))
        await asked.until(lambda: "0" not in asked.engine.units)
        await asked.engine._stop()  # at once: a thread that is to do it may be late
        assert not any(map(launcher.pid, ["0", "1", "0-1"]))
        with pytest.raises(ConfigError, match="the server ends"):
            await asyncio.wait_for(move, WAIT_S)
        assert launcher.started == ["0", "1"]


@in_loop
async def test_what_every_unit_refuses_ends(tmp_path, monkeypatch):
    async with cluster(tmp_path, unit("0", "a"), unit("1", "a", devices=(1,))) as (asked, _):
        loop = asyncio.get_running_loop()
        with monkeypatch.context() as patch:
            for one in asked.engine.units.values():
                patch.setattr(
                    one,
                    "send",
                    lambda message, one=one: loop.call_soon(asked.engine.unit_refused, one, Refused(message.request.id, "no", 500)),
                )
            asked.ask("r", "a")
            await asked.ended()
        assert asked.told["r"][-1].finish is Finish.ERROR and is_clean(asked)


@in_loop
async def test_a_cancelled_request_of_a_dropped_unit_does_not_go_on(tmp_path):
    (tmp_path / "slow").touch()  # they do not end before they are cancelled
    async with cluster(tmp_path, unit("0", "a"), unit("1", "a", devices=(1,))) as (asked, _):
        for name in ("r0", "r1"):
            asked.ask(name, "a", max_tokens=300)
        await asked.until(lambda: asked.begun("r0") and asked.begun("r1"))
        for name in ("r0", "r1"):
            asked.engine.cancel(name)
        await asked.engine.drop_unit("0")
        await asked.ended()
        assert [asked.told[name][-1].finish for name in ("r0", "r1")] == [Finish.ABORT] * 2
        assert is_clean(asked)


@in_loop
async def test_a_plan_that_fails_late_gives_back_what_went_for_it(tmp_path):
    async with cluster(tmp_path, unit("0", "a", "b"), unit("1", "c", "d", devices=(1,))) as (asked, _):
        with pytest.raises(ConfigError, match="no room"):
            await Mover(asked.engine, drain_s=0.1).move([unit("0", "large"), unit("1", "c", "d", "large", devices=(1,))])
        await asked.until(lambda: asked.engine.states() == dict.fromkeys("abcd", "ready"))
        for name in "abcd":
            asked.ask(name, name)
        await asked.ended()
        check(asked)


@in_loop
async def test_a_model_that_is_placed_nowhere_can_be_removed_and_nothing_else(tmp_path):
    async with cluster(tmp_path, unit("0", "a")) as (asked, _):
        lifecycle = ClusterLifecycle(asked.engine)
        await asyncio.to_thread(lifecycle.remove, "left out", timeout_s=30.0)
        with pytest.raises(RequestError, match="`left out` is in no unit of the placement"):
            await asyncio.to_thread(lifecycle.wake, "left out")
        with pytest.raises(RequestError, match="`left out` is in no unit of the placement"):
            asked.ask("r", "left out")


@in_loop
async def test_the_last_model_of_a_unit_goes_with_it(tmp_path):
    async with cluster(tmp_path, unit("0", "a"), unit("1", "b", devices=(1,))) as (asked, launcher):
        asked.ask("r", "a", max_tokens=60)
        await asyncio.to_thread(ClusterLifecycle(asked.engine).remove, "a", timeout_s=30.0)
        await asked.ended()
        check(asked)
        assert asked.engine.states() == {"b": "ready"} and not launcher.pid("0")


@in_loop
async def test_a_worker_of_another_protocol_is_replaced(tmp_path, monkeypatch):
    """One that a server of another version has left."""
    async with cluster(tmp_path, unit("0", "a")) as (asked, launcher):
        before = launcher.pid("0")
        await asked.engine.leave()
        protocols = iter([PROTOCOL + 1])
        monkeypatch.setattr(link, "Hello", lambda protocol, *rest: Hello(next(protocols, protocol), *rest))
        async with cluster(tmp_path, unit("0", "a")) as (second, launcher):
            await second.until(lambda: second.engine.states() == {"a": "ready"})
            assert launcher.pid("0") != before


@in_loop
async def test_a_worker_outlives_what_makes_no_sense(tmp_path):
    async with cluster(tmp_path, unit("0", "a")) as (asked, launcher):
        before = launcher.pid("0")
        await asked.engine.leave()
        hello = frame(encode(Hello(PROTOCOL, "x", unit("0", "a").options)))
        for data in (b"\xff" * 100, frame(b"\x00\x01"), b"GET / HTTP/1.1\r\n\r\n", hello + frame(b"\x93"), hello + b"\xff" * 100):
            with socket.socket(socket.AF_UNIX) as stream:
                stream.connect(str(tmp_path / "0.sock"))
                stream.sendall(data)
        async with cluster(tmp_path, unit("0", "a")) as (second, launcher):
            assert launcher.pid("0") == before and second.engine.units["0"].state is UnitState.READY


class StoppedLauncher(FakeLauncher):
    """Its first worker is stopped before it listens; each later one has all the time that it takes on a busy machine."""

    def __init__(self, folder: Path, on_second: Callable[[], object]):
        super().__init__(folder)
        self._on_second = on_second

    async def start(self, spec):
        handle = await super().start(spec)
        if self.started == ["0"]:
            self.kill("0", signal.SIGSTOP)
        else:
            self._on_second()
        return handle


@in_loop
async def test_a_worker_that_never_listens_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(remote_unit, "LISTEN_S", 1.0)
    asked = Asked([unit("0", "a")], launcher := StoppedLauncher(tmp_path, monkeypatch.undo))
    await asked.start()
    assert launcher.started == ["0", "0"] and asked.engine.units["0"].state is UnitState.READY
    await asked.stop()


def test_a_link_that_is_closed_hears_no_more():
    """A worker that is of no use may have said that it is ready in the same breath."""
    heard = []
    closed = SimpleNamespace(is_closing=lambda: bool(heard))
    one = link.Link(heard.append, lambda: None)
    one.connection_made(closed)  # type: ignore[arg-type]
    one.data_received(frame(encode(Broken("no", bad_input=False))) + frame(encode(Pulse(True, None, {}, {}))))
    assert heard == [Broken("no", bad_input=False)]


def test_a_worker_forgets_a_request_that_it_cannot_take():
    def fails(*_, **__):
        raise ValueError

    host = UnitHost(SimpleNamespace(options=None, device="", engine=SimpleNamespace(prepare=fails), lifecycle=None), None)  # type: ignore[arg-type]
    host.obey(Submit(0.0, Request(id="r", model="a", prompt=(1,), sampling=Sampling(), arrival_s=0.0)))
    assert not host._held and not host._preparing


@in_loop
async def test_a_change_is_known_though_whoever_asked_is_gone():
    go, placing = asyncio.Event(), Placing(SimpleNamespace(units={}), None, None, None)  # type: ignore[arg-type]

    async def move(specs):
        await go.wait()
        return SimpleNamespace(load=(), start=(), remove=(), stop=())

    placing._mover = SimpleNamespace(move=move)  # type: ignore[assignment]
    placing._specs = lambda placement: ()
    asking = asyncio.create_task(placing.move_to("another"))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    go.set()
    assert placing._moving is not None
    await placing._moving
    assert placing._placement == "another"


def test_workers_of_another_placement_are_ended(tmp_path):
    """They would keep the devices that others are to have."""
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    workers = [subprocess.Popen(sleeping, start_new_session=True) for _ in range(2)]
    for name, worker in zip(("0", "0-1"), workers, strict=True):
        (tmp_path / f"unit-{name}.pid").write_text(f"{worker.pid} {born(worker.pid)}\n")
    (tmp_path / "unit-7.pid").write_text("stale\n")
    (tmp_path / "unit-0-1.sock").touch()
    LocalLauncher(folder=tmp_path).end_others(["0"])
    assert workers[1].wait(WAIT_S) == -signal.SIGKILL and workers[0].poll() is None
    assert not list(tmp_path.glob("unit-0-1.*"))
    workers[0].kill()
    workers[0].wait()


def test_a_folder_of_workers_has_one_front(tmp_path):
    """Servers on two addresses have one port, and so one folder: each ended the other's worker as often as it was started."""
    claim = f"from pathlib import Path; from muxjax.cluster.launcher import *; LocalLauncher(folder=Path({str(tmp_path / 'a')!r})).claim()"
    front = subprocess.Popen([sys.executable, "-c", f"{claim}; print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert front.stdin and front.stdout and front.stdout.readline()
    with front.stdin, front.stdout:
        with pytest.raises(ConfigError, match=r"another server has its workers in .*a: .* worker_dir of its own"):
            LocalLauncher(folder=tmp_path / "a").claim()
        LocalLauncher(folder=tmp_path / "b").claim()
        front.kill()
        front.wait()
    LocalLauncher(folder=tmp_path / "a").claim()


def test_a_folder_too_long_for_sockets_is_refused():
    with pytest.raises(ConfigError, match="80 bytes"):
        LocalLauncher(folder=Path("/tmp") / ("x" * 100))


def test_sockets_lie_in_the_users_own_folder_and_not_in_that_of_who_became_the_user(monkeypatch, tmp_path):
    monkeypatch.setattr("muxjax.cluster.launcher._SHARED", tmp_path)
    shared = tmp_path / f"muxjax-{os.getuid()}" / "muxjax" / "8000"
    (tmp_path / "own").mkdir()
    for named, folder in (("own", tmp_path / "own" / "muxjax" / "8000"), ("none", shared)):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / named))
        assert socket_folder(8000) == folder
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    assert socket_folder(8000) == shared
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/")
    monkeypatch.setattr("muxjax.cluster.launcher._is_own", lambda folder: folder != Path("/"))
    assert socket_folder(8000) == shared


@pytest.mark.parametrize(
    "environment, is_cpu",
    [({}, False), ({"CUDA_VISIBLE_DEVICES": "1"}, False), ({"CUDA_VISIBLE_DEVICES": ""}, True), ({"CUDA_VISIBLE_DEVICES": "-1"}, True)],
)
def test_who_is_shown_no_gpu_has_a_cpu(monkeypatch, environment, is_cpu):
    monkeypatch.setattr(Path, "exists", lambda path: path == Path("/dev/nvidiactl"))
    assert launcher.is_cpu(environment) is is_cpu
    assert not launcher.is_cpu({**environment, "JAX_PLATFORMS": "cuda"})


def test_somebody_elses_folder_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("muxjax.cluster.launcher._SHARED", tmp_path)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    stranger = tmp_path.stat().st_uid + 1
    monkeypatch.setattr("os.getuid", lambda: stranger)
    with pytest.raises(ConfigError, match="another user's"):
        socket_folder(8000)
