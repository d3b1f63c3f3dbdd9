"""Compiling processes compile for the CPU as well, stop where they are, go on, and end when they have nothing to do."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import pytest

from muxjax.cluster.launcher import born
from muxjax.device.programs.compiler import Compiler
from muxjax.device.programs.library import ProgramLibrary
from muxjax.device.programs.pool import CompileWorkers
from muxjax.device.programs.sources import RecountSource
from muxjax.device.programs.store import ProgramStore
from muxjax.device.programs.worker import Setup
from muxjax.models.sharding import Devices

DEVICES = Devices((jax.devices("cpu")[0],))
PLACES = (0,)
WAIT_S = 120


def state(pid: int) -> str:
    """As the kernel has it: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def workers(tmp_path):
    setup = Setup(target=None, devices=1, folder=tmp_path, environment="here", tuning=None, niceness=5)
    workers = CompileWorkers(setup, 1)
    yield workers
    workers.close()


def source(vocab: int) -> RecountSource:
    return RecountSource(vocab=vocab, slots=2, tp=1)


def test_a_process_compiles_stops_goes_on_and_ends(workers, tmp_path):
    assert workers.compile(source(8), PLACES).result(WAIT_S) == ""
    assert ProgramStore(tmp_path, "here").load(repr(source(8)), DEVICES.each) is not None
    (process,) = workers._processes
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == os.getpriority(os.PRIO_PROCESS, 0) + 5

    workers.pause()
    answer = workers.compile(source(9), PLACES)
    deadline_s = time.monotonic() + WAIT_S
    while state(process.pid) != "T" and time.monotonic() < deadline_s:
        time.sleep(0.01)
    time.sleep(0.2)
    assert state(process.pid) == "T" and not answer.done()
    workers.resume()
    assert answer.result(WAIT_S) == ""

    workers.retire()
    assert process.poll() is not None
    assert workers.compile(source(10), PLACES).result(WAIT_S) == ""


def test_a_process_that_is_stopped_can_be_ended(workers):
    workers.pause()
    answer = workers.compile(source(8), PLACES)
    deadline_s = time.monotonic() + WAIT_S
    while not workers._processes and time.monotonic() < deadline_s:
        time.sleep(0.01)
    workers.close()

    assert "ended" in answer.result(WAIT_S)


def test_a_process_that_dies_is_told_and_replaced(workers):
    assert workers.compile(source(8), PLACES).result(WAIT_S) == ""
    next(iter(workers._processes)).kill()

    assert workers.compile(source(9), PLACES).result(WAIT_S) != ""
    assert workers.compile(source(9), PLACES).result(WAIT_S) == ""


PARENT = """
import sys, time
from pathlib import Path
from muxjax.device.programs.pool import CompileWorkers
from muxjax.device.programs.worker import Setup
from tests.device.programs.test_pool import source

workers = CompileWorkers(Setup(target=None, devices=1, folder=Path(sys.argv[1]), environment="here", tuning=None, niceness=0), 1)
workers.pause()
workers.compile(source(8), (0,))
while not workers._processes:
    time.sleep(0.01)
print(*(process.pid for process in workers._processes), flush=True)
time.sleep(600)
"""


def test_a_stopped_process_ends_with_whoever_has_started_it(tmp_path):
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as parent:
        assert parent.stdout
        pid, deadline_s = int(parent.stdout.readline()), time.monotonic() + WAIT_S
        while state(pid) != "T" and time.monotonic() < deadline_s:
            time.sleep(0.01)
        parent.kill()
    while born(pid) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not born(pid)


def test_what_nobody_waits_for_is_compiled_by_a_process_on_a_cpu_too(tmp_path, monkeypatch):
    def never(self, source):
        raise AssertionError("compiled in the serving process")

    monkeypatch.setattr(Compiler, "compile", never)
    programs = ProgramLibrary.open(DEVICES, str(tmp_path))
    programs.pause()
    made = programs.complete({"a": [source(8)]}, lambda key, error: pytest.fail(str(error)), threading.Event())
    threading.Timer(0.5, programs.resume).start()
    (key, found), *_ = made
    programs.close()

    assert key == "a" and list(found) == [source(8)]
