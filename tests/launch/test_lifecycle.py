"""Models come, go, sleep and wake on a device while others answer, and no token of any answer is another one for it."""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from muxjax.buckets import BatchShape
from muxjax.device.executor import DeviceExecutor
from muxjax.device.lanes.pools import Pools
from muxjax.device.offload import offload, onload
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import CheckpointError, ConfigError, RequestError
from muxjax.launch.build import build
from muxjax.models import weights
from muxjax.models.sharding import Devices
from muxjax.specs.config import to_hf_config
from muxjax.types import Finish, Output, Request, Sampling
from tests.device.test_step import SPEC
from tests.xla_cache import XLA_CACHE

WAIT_S = 120
MIB = 2**20
PROMPTS = tuple(tuple(range(i, i + 3 + 2 * i)) for i in range(6))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model")
    path.joinpath("config.json").write_text(json.dumps(to_hf_config(replace(SPEC, windows=(None, None)))))
    return path


def options_of(name: str, folder: Path) -> ModelOptions:
    return ModelOptions(name=name, path=folder, load_format="dummy", dtype="float32", max_num_seqs=4)


class Running:
    """A started engine of one model "a", whose requests come all the time from a thread until it is told to stop."""

    def __init__(self, folder: Path, **changes):
        sizes = {"block_bytes": 512, "max_num_batched_tokens": 16, "compilation_cache_dir": str(XLA_CACHE)}
        options = UnitOptions(models=(options_of("a", folder),), **{**sizes, **changes})
        built = build(options, report=lambda line: None, progress=False)
        self.engine, self.lifecycle = built.engine, built.lifecycle
        self.folder = folder
        self.said: dict[str, queue.SimpleQueue[Output]] = {}
        self.answers: list[tuple[int, list[int | None], Finish | None]] = []
        self._over = threading.Event()
        self._answered = threading.Event()
        self._count = 0
        self.engine.start(self._hear)
        self.wanted = {i: self.answer("a", prompt) for i, prompt in enumerate(PROMPTS)}
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _hear(self, outputs: list[Output]) -> None:
        for output in outputs:
            self.said[output.request_id].put(output)

    def _ask(self) -> None:
        while not self._over.is_set():
            names = {i: self.submit("a", prompt) for i, prompt in enumerate(PROMPTS)}
            self.answers += [(i, *self.wait(name)) for i, name in names.items()]
            self._answered.set()

    def submit(self, model: str, prompt: tuple[int, ...]) -> str:
        self._count += 1
        name = f"{model}-{threading.get_ident()}-{self._count}"
        self.said[name] = queue.SimpleQueue()
        request = Request(
            id=name, model=model, prompt=prompt, sampling=Sampling(temperature=0.0, max_tokens=20), arrival_s=time.monotonic()
        )
        self.engine.submit(request)
        return name

    def wait(self, name: str) -> tuple[list[int | None], Finish | None]:
        outputs = [self.said[name].get(timeout=WAIT_S)]
        while outputs[-1].finish is None:
            outputs.append(self.said[name].get(timeout=WAIT_S))
        return [output.token for output in outputs], outputs[-1].finish

    def answer(self, model: str, prompt: tuple[int, ...]) -> tuple[list[int | None], Finish | None]:
        return self.wait(self.submit(model, prompt))

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self.engine.stop()

    def check(self) -> None:
        """Every answer of "a" so far, of which there is one at least, is the one that it gave alone."""
        assert self._answered.wait(WAIT_S) and all(self.wanted[i] == (tokens, finish) for i, tokens, finish in list(self.answers))

    @property
    def device(self) -> DeviceExecutor:
        return self.lifecycle._devices._executor  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def blocks(self) -> int:
        return self.engine.stats().total_blocks


@pytest.fixture(scope="module")
def fixed(folder) -> Iterator[Running]:
    """An arena whose size the options say."""
    running = Running(folder, kv_cache_bytes=MIB)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def elastic(folder) -> Iterator[Running]:
    """An arena that takes what the models leave of 64 MiB."""
    running = Running(folder, memory_bytes=64 * MIB)
    yield running
    running.stop()


def test_a_model_comes_sleeps_wakes_and_goes_while_another_answers(fixed):
    fixed.lifecycle.load(options_of("b", fixed.folder))
    assert fixed.lifecycle.states() == {"a": "ready", "b": "ready"}
    before = [fixed.answer("b", prompt) for prompt in PROMPTS]
    fixed.lifecycle.sleep("b", timeout_s=WAIT_S)
    assert fixed.lifecycle.states()["b"] == "asleep" and fixed.device.models["b"].is_offloaded
    with pytest.raises(RequestError, match="asleep"):
        fixed.submit("b", (1,))
    fixed.lifecycle.sleep("b", timeout_s=WAIT_S)
    fixed.lifecycle.wake("b")
    fixed.lifecycle.wake("b")
    assert [fixed.answer("b", prompt) for prompt in PROMPTS] == before
    fixed.lifecycle.remove("b", timeout_s=WAIT_S)
    assert fixed.lifecycle.states() == {"a": "ready"} and set(fixed.device.models) == {"a"}
    with pytest.raises(RequestError, match="does not exist"):
        fixed.submit("b", (1,))
    stats = fixed.engine.stats()
    assert fixed.blocks == MIB // 512 and stats.models[0].quota_blocks == stats.total_blocks
    fixed.check()


def test_turns_go_on_while_a_new_model_s_programs_run_for_the_first_time(fixed, monkeypatch):
    """Whoever waits for their end is not the thread of the turns, which takes commands meanwhile."""
    warm, turned = fixed.device.warm, []

    def slow(name: str, shape: BatchShape) -> Callable[[], object]:
        ended = warm(name, shape)
        return lambda: (turned.append(fixed.engine.do(threading.get_ident)), ended())

    monkeypatch.setattr(fixed.device, "warm", slow)
    fixed.lifecycle.load(options_of("d", fixed.folder))
    fixed.lifecycle.remove("d", timeout_s=WAIT_S)
    assert turned and threading.get_ident() not in turned
    fixed.check()


def test_requests_that_run_end_before_their_model_sleeps(fixed):
    fixed.lifecycle.load(options_of("c", fixed.folder))
    names = [fixed.submit("c", prompt) for prompt in PROMPTS]
    fixed.lifecycle.sleep("c", timeout_s=WAIT_S)
    assert all(fixed.wait(name)[1] is Finish.LENGTH for name in names)
    fixed.lifecycle.remove("c", timeout_s=WAIT_S)
    fixed.check()


def test_the_arena_makes_room_for_a_model_and_gets_it_back(elastic):
    before = elastic.blocks
    elastic.lifecycle.load(options_of("b", elastic.folder))
    with_b = elastic.blocks
    answer = elastic.answer("b", PROMPTS[3])
    elastic.lifecycle.sleep("b", timeout_s=WAIT_S)
    asleep = elastic.blocks
    assert with_b < asleep < before  # its tables stay
    elastic.lifecycle.wake("b")
    assert elastic.blocks <= with_b + 8 and elastic.answer("b", PROMPTS[3]) == answer
    elastic.lifecycle.remove("b", timeout_s=WAIT_S)
    assert elastic.blocks >= before - 8
    elastic.check()


def test_what_does_not_fit_is_refused_and_changes_nothing(elastic, tmp_path):
    before = elastic.blocks
    (tmp_path / "config.json").write_text(json.dumps(to_hf_config(replace(SPEC, windows=(None, None), vocab=10**6))))
    with pytest.raises(ConfigError, match="leave"):
        elastic.lifecycle.load(options_of("huge", tmp_path))
    assert elastic.blocks == before and elastic.lifecycle.states() == {"a": "ready"}
    elastic.check()


def test_a_model_that_cannot_be_read_leaves_nothing_behind(elastic):
    before = elastic.blocks
    with pytest.raises((CheckpointError, ConfigError)):
        elastic.lifecycle.load(replace(options_of("b", elastic.folder), load_format="auto"))
    assert elastic.lifecycle.states() == {"a": "ready"} and abs(elastic.blocks - before) <= 8
    elastic.check()


def test_unknown_models_and_names_in_use_are_refused(fixed):
    with pytest.raises(RequestError, match="is there already") as refusal:
        fixed.lifecycle.load(options_of("a", fixed.folder))
    assert refusal.value.status == 409
    for change in (
        lambda: fixed.lifecycle.wake("z"),
        lambda: fixed.lifecycle.sleep("z", timeout_s=1),
        lambda: fixed.lifecycle.remove("z", timeout_s=1),
    ):
        with pytest.raises(RequestError, match="does not exist"):
            change()


def test_weights_come_back_as_they_went_from_several_devices():
    devices = Devices.first(2)
    params = weights.dummy(SPEC, devices)
    before = jax.tree.map(np.array, params)
    places = jax.tree.map(lambda leaf: leaf.sharding, params)
    offloaded = offload(params)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(params))
    again = onload(offloaded)
    assert jax.tree.map(lambda leaf: leaf.sharding, again) == places
    assert jax.tree.all(jax.tree.map(np.array_equal, before, again))
    assert not jax.tree.all(jax.tree.map(np.array_equal, before, jax.tree.map(lambda leaf: leaf + 1, again)))


def test_the_check_notices_an_arena_that_was_emptied_under_a_running_answer(elastic):
    elastic.check()
    seen, executor = len(elastic.answers), elastic.device

    def empty() -> None:
        (lane,) = executor.lanes
        lane.pools = Pools({device: pool * 0 for device, pool in lane.pools.by_device.items()})

    while len(elastic.answers) < seen + 2 * len(PROMPTS):
        elastic.engine.do(empty)
    with pytest.raises(AssertionError):
        elastic.check()
    rows = executor.arena_rows
    elastic.engine.do(lambda: (elastic.lifecycle._unit.forget({"a"}), executor.renew(rows)))


def test_a_failed_model_can_be_removed_and_added_again(fixed):
    fixed.lifecycle.load(options_of("b", fixed.folder))
    good = fixed.answer("b", PROMPTS[2])
    model = fixed.device.models["b"]
    fixed.engine.do(lambda: setattr(model, "weights", jax.tree.map(lambda leaf: leaf * float("nan"), model.params)))
    assert fixed.answer("b", PROMPTS[5])[1] is Finish.FAILED
    for change in (lambda: fixed.lifecycle.wake("b"), lambda: fixed.lifecycle.sleep("b", timeout_s=1)):
        with pytest.raises(RequestError, match="can only be removed") as refusal:
            change()
        assert refusal.value.status == 409
    fixed.lifecycle.remove("b", timeout_s=WAIT_S)
    fixed.lifecycle.load(options_of("b", fixed.folder))
    assert fixed.answer("b", PROMPTS[2]) == good
    fixed.lifecycle.remove("b", timeout_s=WAIT_S)
    fixed.check()
