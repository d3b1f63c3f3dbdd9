"""Programs are compiled once and found again; what no other process can do is done here."""

import threading
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from muxjax.device.programs.compiler import Compiler
from muxjax.device.programs.library import ProgramLibrary
from muxjax.device.programs.store import ProgramStore
from muxjax.models.sharding import Devices

DEVICES = Devices((jax.devices("cpu")[0],))
TRACED: Counter[int] = Counter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """A program that multiplies; a `factor` of 0 cannot be traced."""

    factor: int

    def lower(self, devices):
        TRACED[self.factor] += 1
        if not self.factor:
            raise ValueError("no such program")
        return jax.jit(lambda x: self.factor * x).lower(jax.ShapeDtypeStruct((2,), jnp.float32))

    def options(self, platform):
        return {}


class FakeWorkers:
    """In place of processes: compiles into the store, or fails."""

    def __init__(self, store: ProgramStore, trouble: str = ""):
        self.asked: list[Times] = []
        self._store, self._trouble = store, trouble

    def compile(self, source: Times, places: tuple[int, ...]) -> Future[str]:
        self.asked.append(source)
        if not self._trouble:
            self._store.keep(repr(source), Compiler(devices=DEVICES).compile(source)[1])
        future: Future[str] = Future()
        future.set_result(self._trouble)
        return future

    def close(self) -> None:
        pass

    def retire(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _nothing_traced():
    TRACED.clear()


def library(folder: Path, **workers) -> ProgramLibrary:
    store = ProgramStore(folder, "here")
    return ProgramLibrary(store, Compiler(devices=DEVICES), lambda: FakeWorkers(store, **workers) if workers else None, at_once=2)


def results(programs: ProgramLibrary, *factors: int) -> dict[int, list[float]]:
    found = programs.find([Times(factor=factor) for factor in factors])
    return {source.factor: program(jnp.ones(2)).tolist() for source, program in found}


def test_a_second_start_traces_nothing(tmp_path):
    assert results(library(tmp_path), 2, 3) == {2: [2, 2], 3: [3, 3]}
    assert TRACED == {2: 1, 3: 1}
    assert results(library(tmp_path), 2, 3) == {2: [2, 2], 3: [3, 3]}
    assert TRACED == {2: 1, 3: 1}


def test_a_source_that_is_asked_for_twice_is_compiled_once(tmp_path):
    programs = library(tmp_path)
    first = dict(programs.find([Times(factor=2), Times(factor=2)]))
    again = dict(programs.find([Times(factor=2)]))

    assert TRACED == {2: 1}
    assert first[Times(factor=2)] is again[Times(factor=2)]


def test_what_workers_compile_is_loaded_and_not_compiled_here(tmp_path):
    store = ProgramStore(tmp_path, "here")
    workers = FakeWorkers(store)
    programs = ProgramLibrary(store, Compiler(devices=DEVICES), lambda: workers, at_once=2)

    assert results(programs, 5) == {5: [5, 5]}
    assert workers.asked == [Times(factor=5)] and TRACED == {5: 1}


def test_beside_steps_workers_compile_what_a_start_compiles_itself(tmp_path):
    store = ProgramStore(tmp_path, "here")
    workers = FakeWorkers(store)
    programs = ProgramLibrary(store, Compiler(devices=DEVICES), lambda: workers, at_once=2, always_by_workers=False)

    assert results(programs, 5) == {5: [5, 5]} and workers.asked == []
    assert [source.factor for source, _ in programs.find([Times(factor=7)], beside=True)] == [7]
    assert workers.asked == [Times(factor=7)]


def test_what_workers_cannot_do_is_compiled_here(tmp_path, caplog):
    programs = library(tmp_path, trouble="the compiling process failed: it ended")

    assert results(programs, 5) == {5: [5, 5]}
    assert "it ended" in caplog.text


def test_a_program_that_cannot_be_made_is_told_to_who_asked_and_to_no_other(tmp_path):
    programs = library(tmp_path)

    with pytest.raises(ValueError, match="no such program"):
        results(programs, 0)
    assert results(programs, 2) == {2: [2, 2]}


def test_a_closed_library_ends_at_once(tmp_path):
    programs = library(tmp_path)
    results(programs, 2)
    started = time.monotonic()
    programs.close()

    assert time.monotonic() - started < 60


def test_a_closed_library_compiles_nothing_and_has_no_threads(tmp_path):
    before = set(threading.enumerate())
    programs = library(tmp_path)
    results(programs, 2)
    programs.close()

    assert set(threading.enumerate()) <= before
    with pytest.raises(RuntimeError):
        results(programs, 3)
    assert TRACED == {2: 1}


def test_what_one_gives_up_is_made_for_others_who_wait_for_it(tmp_path):
    first, stopped = threading.Event(), threading.Event()
    programs = ProgramLibrary(ProgramStore(tmp_path, "here"), Compiler(devices=DEVICES), lambda: None, at_once=1)
    programs._threads_behind.submit(first.wait)  # so that nothing has begun
    needs = {"model": [Times(factor=2)]}
    asks = [programs.complete(needs, lambda *_: pytest.fail("not made"), event) for event in (stopped, threading.Event())]
    waiting = threading.Thread(target=lambda: made.extend(asks[0]))
    made: list = []
    waiting.start()
    while not programs._orders:
        time.sleep(0.01)
    others = threading.Thread(target=lambda: made.extend(asks[1]))
    others.start()
    while programs._orders[Times(factor=2), DEVICES].askers < 2:
        time.sleep(0.01)
    stopped.set()
    waiting.join()
    assert not made
    first.set()
    others.join()
    programs.close()

    assert [key for key, _ in made] == ["model"]


def test_what_everybody_gives_up_is_not_made(tmp_path):
    first, stopped = threading.Event(), threading.Event()
    programs = ProgramLibrary(ProgramStore(tmp_path, "here"), Compiler(devices=DEVICES), lambda: None, at_once=1)
    programs._threads_behind.submit(first.wait)
    stopped.set()

    assert list(programs.complete({"model": [Times(factor=2)]}, lambda *_: None, stopped)) == []
    first.set()
    programs.close()
    assert TRACED == {}


class StuckWorkers(FakeWorkers):
    """Never done, until they are closed."""

    def __init__(self, store: ProgramStore):
        super().__init__(store)
        self.began, self._answer = threading.Event(), Future()

    def compile(self, source: Times, places: tuple[int, ...]) -> Future[str]:
        self.began.set()
        return self._answer

    def close(self) -> None:
        self._answer.set_result("the compiling process failed: it ended")
        time.sleep(0.2)  # in which others in line could begin


def test_what_a_library_that_closes_gives_up_is_told_as_no_failure(tmp_path, caplog):
    store = ProgramStore(tmp_path, "here")
    workers = StuckWorkers(store)
    programs = ProgramLibrary(store, Compiler(devices=DEVICES), lambda: workers, at_once=1)
    needs, told = {factor: [Times(factor=factor)] for factor in (2, 3, 4)}, []
    building = threading.Thread(target=lambda: told.extend(programs.complete(needs, lambda *why: told.append(why), threading.Event())))
    building.start()
    assert workers.began.wait(60)
    programs.close()
    building.join()

    assert told == [] and TRACED == {}
