"""Servers that are started, waited for, watched and stopped: none is left behind, whatever it does."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from muxjax.bench.backends import mps, processes
from muxjax.bench.backends.known import backend_of
from muxjax.bench.backends.processes import PORTS, free_ports, log_name
from muxjax.bench.backends.running import lacking, serving
from muxjax.errors import ConfigError
from tests.bench.backends.kit import ROOT, failing, fleet
from tests.bench.backends.server import DEAF

FLEET = fleet()


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(processes, "STOP_S", 0.5)
    monkeypatch.setattr("muxjax.bench.backends.running.POLL_S", 0.02)


def lives(pid: int) -> bool:
    """It is there, and no zombie that nobody has asked about yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def end(pids: Collection[int]) -> bool:
    """They do within a minute: a kill takes its time, and nobody waits for what servers have started."""
    deadline_s = time.monotonic() + 60
    while any(map(lives, pids)) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return not any(map(lives, pids))


def test_all_are_ready_when_the_block_begins_and_gone_when_it_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("MUXJAX_API_KEY", "would lock the servers")
    monkeypatch.setattr(processes, "STOP_S", 60.0)
    with serving(failing("", "slow"), FLEET, tmp_path) as running:
        pids = [one.process.pid for one in running.processes]
        assert all(map(lives, pids)) and set(running.urls) == {"good", "slow"}
        assert running.start_s > 0.9
        running.check()
    assert not any(map(lives, pids))
    assert [one.process.returncode for one in running.processes] == [-signal.SIGTERM] * 2
    assert "would lock" not in (log := (tmp_path / "made%20up-good.log").read_text()) and "MUXJAX_API_KEY" not in log


def test_a_server_that_ends_before_it_is_ready_is_told_with_its_last_words(tmp_path):
    with pytest.raises(ConfigError, match=r"(?s)ends has ended with 1: .*no luck today"), serving(failing("mute", "ends"), FLEET, tmp_path):
        pass


def test_a_server_that_is_never_ready_is_waited_for_no_longer_than_that(tmp_path):
    with pytest.raises(ConfigError, match="mute is not ready in time: "), serving(failing("mute"), FLEET, tmp_path, ready_s=0.5):
        pass


@pytest.mark.parametrize("fault", ["deaf", "parent"])
def test_a_server_that_does_not_go_or_leaves_others_is_killed_with_them(fault, tmp_path):
    with serving(failing(fault), FLEET, tmp_path) as running:
        group = running.processes[0].family
        assert len(group) == (2 if fault == "parent" else 1)
    assert end(group)


def test_a_server_that_was_killed_is_why_the_block_failed(tmp_path):
    with pytest.raises(ConfigError, match="good was ended by SIGKILL"), serving(failing("", "deaf"), FLEET, tmp_path) as running:
        running.processes[0].process.kill()
        running.processes[0].process.wait()
        raise ConfigError("what came of it")


def test_what_a_block_raises_while_all_live_is_told_as_it_is(tmp_path):
    with pytest.raises(ConfigError, match="a matter of its own"), serving(failing(""), FLEET, tmp_path):
        raise ConfigError("a matter of its own")


def test_a_second_ctrl_c_kills_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "STOP_S", 600.0)
    interrupts_s: list[float] = []

    def interrupt() -> None:
        """When a server has been told to end."""
        while DEAF not in running.processes[0].told:
            time.sleep(0.02)
        interrupts_s.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), serving(failing("deaf", "deaf"), FLEET, tmp_path) as running:
        pids = [one.process.pid for one in running.processes]
        thread = threading.Thread(target=interrupt)
        thread.start()
        raise KeyboardInterrupt
    thread.join()
    assert time.monotonic() - interrupts_s[0] < 60 and not any(map(lives, pids))


WAITS = """
import sys, time
from pathlib import Path
from muxjax.bench.backends.running import serving
from tests.bench.backends.kit import failing, fleet
with serving(failing("", "parent"), fleet(), Path(sys.argv[1])) as running:
    print(*(pid for one in running.processes for pid in one.family), flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_client_that_is_told_to_end_leaves_nobody_behind(number, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    waits = [sys.executable, "-c", WAITS, str(tmp_path)]
    with subprocess.Popen(waits, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as client:
        assert client.stdout is not None
        pids = [int(word) for word in client.stdout.readline().split()]
        assert len(pids) == 3 and all(map(lives, pids))
        client.send_signal(number)
        client.wait(60)
    assert end(pids)


def test_a_command_that_is_not_there_is_told(tmp_path):
    backend = failing("")
    gone = replace(backend, servers=lambda of, ports: [replace(backend.servers(of, ports)[0], command=("no-such-program",))])
    with pytest.raises(ConfigError, match="no-such-program cannot be started: No such file"), serving(gone, FLEET, tmp_path):
        pass


def test_ports_are_free_and_none_is_given_twice():
    with free_ports() as port:
        found = [port() for _ in range(300)]
    assert len(set(found)) == 300 and set(found) <= set(PORTS)


def test_logs_are_files_of_their_folder_whatever_models_are_called():
    names = [log_name("vllm", model) for model in ("meta/llama", "meta_llama", "..", "../x", "a b", "a\nb", "%2F", "/")]
    assert len(set(names)) == len(names) and all(Path(name).name == name and name.isprintable() for name in names)
    assert log_name("static-mps", "8b") == "static-mps-8b.log"


def test_what_is_missing_is_known_before_anything_is_started(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert lacking(backend_of("vllm")) == "vllm is not on PATH"
    assert lacking(backend_of("sglang")) == "sglang is not installed"
    assert lacking(backend_of("own=no.such.module")) == "no.such.module is not installed"
    assert lacking(backend_of("own=muxjax.bench.backends.known")) == ""
    assert lacking(backend_of("llama.cpp")) == "llama-server is not on PATH"
    assert lacking(backend_of("spatial")) == f"{mps.CONTROL} is not on PATH"
    assert lacking(backend_of("mux")) == ""


def test_a_module_in_this_folder_is_found_as_python_finds_it(tmp_path, monkeypatch):
    (tmp_path / "of_this_folder").mkdir()
    (tmp_path / "of_this_folder/server.py").touch()
    (fitting, absent) = (backend_of(f"x=of_this_folder.{name}") for name in ("server", "absent"))
    assert "of_this_folder.server is not installed" in lacking(fitting)
    monkeypatch.chdir(tmp_path)
    assert lacking(fitting) == ""
    assert lacking(absent) == "of_this_folder.absent is not installed"
    assert str(tmp_path) not in sys.path


def test_sigterm_ends_what_does_not_hear_ctrl_c():
    """As the background jobs of a script's shell."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), processes.sigterm_as_ctrl_c():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)
