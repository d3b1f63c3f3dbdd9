"""Models in lanes of their own answer as in one; what one lane loses, it alone loses."""

import threading
from collections.abc import Iterable

import jax
import numpy as np
import pytest

from muxjax.buckets import Buckets
from muxjax.device.executor import DeviceExecutor
from muxjax.device.lanes.arena import OwnArenas
from muxjax.device.lanes.clients import open_lanes
from muxjax.device.model import DeviceModel
from muxjax.device.paged_memory import blocks_shape
from muxjax.engine.loop import turn
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.engine.stats import Status
from muxjax.engine.unit import Unit
from muxjax.models import weights
from muxjax.models.sharding import OWN
from muxjax.scheduler.policies import by_name
from muxjax.types import Finish, Output, Request, Sampling
from tests.device.test_executor import BLOCKS, SLOTS, SPEC, layout_of
from tests.device.test_faults import fails_while_it_runs, refused_for_a_while, takes_the_arena_and_raises
from tests.fake_device import FakeClock
from tests.programs import kept_programs

LAYOUT = layout_of(1)
NAMES = "abc"


def make_executor(lane_of: dict[str, int], folder, **more) -> DeviceExecutor:
    """Three models, each on its lane."""
    count = 1 + max(lane_of.values())
    options = tuple(ModelOptions(name=name, path=folder) for name in NAMES)
    lanes = open_lanes(UnitOptions(models=options, lanes=count))
    assert len(lanes) == count
    buckets = Buckets.of(LAYOUT, slots=SLOTS, max_tokens=SPEC.max_len, token_budget=24, prefill_rows=2, ragged=False)
    models = {}
    for seed, (name, lane) in enumerate(lane_of.items()):
        params = weights.dummy(SPEC, lanes[lane], seed=seed)
        models[name] = DeviceModel.empty(
            SPEC, params, layout=LAYOUT, buckets=buckets, slots=SLOTS, max_tokens=SPEC.max_len, devices=lanes[lane], lane=lane
        )
    wholes = [lane.joined(blocks_shape(BLOCKS, LAYOUT.block_bytes, np.dtype(np.float32), lane.each[0]), OWN) for lane in lanes]
    for model in models.values():
        for _ in model.compile(kept_programs(1), model.needs.of(model.needs.essential, wholes[0])):
            pass
    executor = DeviceExecutor(models, OwnArenas(*wholes), lanes=count, **more)
    executor.warm_up()
    return executor


class Serving:
    """A unit over an executor, and twelve requests."""

    def __init__(self, lane_of: dict[str, int], folder, **more):
        self.executor = make_executor(lane_of, folder, **more)
        configs = [ModelConfig(name=name, layout=LAYOUT, slots=SLOTS, max_tokens=SPEC.max_len, lane=lane_of[name]) for name in NAMES]
        self.unit = Unit(configs, total_blocks=BLOCKS, token_budget=24, max_rows=2)
        self.outputs: dict[str, list[Output]] = {}

    def submit(self, **max_tokens: int) -> None:
        """Answers of twelve tokens, but of the models for which another number is said."""
        for i in range(12):
            sampling = Sampling(temperature=(i % 2) * 1.0, max_tokens=max_tokens.get(NAMES[i % 3], 12), seed=7)
            prompt = tuple(range(i, 2 * i + 1))
            self.unit.submit(Request(id=f"{NAMES[i % 3]}{i}", model=NAMES[i % 3], prompt=prompt, sampling=sampling, arrival_s=0.0))

    def turns(self, count: int = 10_000) -> None:
        for _ in range(count):
            if self.unit.idle:
                return
            for output in turn(self.unit, by_name("adbs"), self.executor, FakeClock()):
                self.outputs.setdefault(output.request_id, []).append(output)

    def until_all_decode(self, **max_tokens: int) -> None:
        """Submits, and turns until nobody has to prefill, which is one model's turn at a time."""
        self.submit(**max_tokens)
        while len(self.outputs) < 12:
            self.turns(1)

    @property
    def ended(self) -> list[str]:
        return [name for name, outputs in self.outputs.items() if outputs[-1].finish]

    def tokens(self, models: Iterable[str] = NAMES) -> dict[str, list[int | None]]:
        return {name: [output.token for output in outputs] for name, outputs in self.outputs.items() if name[0] in models}


@pytest.fixture(scope="module")
def wanted(tmp_path_factory) -> dict[str, list[int | None]]:
    serving = Serving(dict.fromkeys(NAMES, 0), tmp_path_factory.mktemp("none"))
    serving.submit()
    serving.turns()
    return serving.tokens()


@pytest.mark.parametrize("lane_of", [{"a": 0, "b": 1, "c": 2}, {"a": 1, "b": 0, "c": 1}])
def test_models_answer_in_lanes_as_they_do_in_one(lane_of, wanted, tmp_path):
    serving = Serving(lane_of, tmp_path)
    serving.submit()
    serving.turns()
    assert serving.tokens() == wanted and {len(tokens) for tokens in wanted.values()} == {12}


@pytest.mark.parametrize("spoil", [takes_the_arena_and_raises, fails_while_it_runs])
def test_a_lane_that_loses_its_arena_costs_the_models_of_others_nothing_and_its_own_no_token(spoil, wanted, tmp_path):
    serving = Serving({"a": 1, "b": 0, "c": 1}, tmp_path)
    other = serving.executor.lanes[0]
    other.renew = lambda: pytest.fail("the other lane loses its arena too")
    serving.submit()
    while {name[0] for name in serving.outputs} < set(NAMES):
        serving.turns(1)
    spoil(serving.executor.models["a"])
    serving.turns()
    assert serving.tokens("bc") == {name: tokens for name, tokens in wanted.items() if name[0] in "bc"}
    assert any(outputs[-1].finish is Finish.FAILED for name, outputs in serving.outputs.items() if name[0] == "a")
    stats = {model.name: model for model in serving.unit.stats().models}
    assert (stats["a"].status, stats["b"].status, stats["c"].status) == (Status.FAILED, Status.READY, Status.READY)
    assert stats["b"].preemptions == 0 < stats["c"].preemptions


def test_whoever_waits_is_woken_by_the_lane_that_ends_first(tmp_path):
    serving = Serving({"a": 0, "b": 1, "c": 1}, tmp_path)
    serving.until_all_decode(a=40)
    gate = held_back(serving.executor.models["a"])
    assert_others_end_before(gate, serving)


def test_whoever_waits_for_one_lane_is_woken_by_somebody_who_may_have_a_step_for_another(tmp_path):
    serving = Serving({"a": 0, "b": 1, "c": 1}, tmp_path)
    serving.executor.wake()
    assert serving.executor.collect(wait=True) == []
    gate = held_back(serving.executor.models["a"])
    serving.unit.submit(Request(id="a", model="a", prompt=(1, 2), sampling=Sampling(max_tokens=1), arrival_s=0.0))
    timer = threading.Timer(0.2, serving.executor.wake)
    timer.start()
    serving.turns(1)
    assert serving.outputs == {}
    gate.set()
    serving.turns()
    assert serving.outputs["a"][-1].finish is Finish.LENGTH
    timer.join()


def assert_others_end_before(gate: threading.Event, serving: Serving) -> None:
    """Those of b and c end while a's wait for the gate; all do once it is open."""
    while sum(name[0] in "bc" for name in serving.ended) < 8:
        serving.turns(1)
    assert len(serving.ended) < 12
    gate.set()
    serving.turns()
    assert all(outputs[-1].finish is Finish.LENGTH for outputs in serving.outputs.values()) and len(serving.outputs) == 12


def held_back(model: DeviceModel) -> threading.Event:
    """Has no step of the model that is launched from now on end before the gate opens, which it returns."""
    gate, at_once = threading.Event(), model.post_step.run

    def late(*arguments):
        result, last_S = at_once(*arguments)
        return result._replace(tokens_B=Late(result.tokens_B, gate)), last_S

    model.post_step.run = late
    return gate


class Late:
    """An array that is there when the gate opens."""

    def __init__(self, array: jax.Array, gate: threading.Event):
        self._array, self._gate = array, gate

    def is_ready(self) -> bool:
        return self._gate.is_set()

    def block_until_ready(self) -> "Late":
        assert self._gate.wait(60)
        return self

    def copy_to_host_async(self) -> None: ...

    def __array__(self, *_, **__) -> np.ndarray:
        return np.asarray(self.block_until_ready()._array)


def test_a_launch_that_takes_long_holds_up_nobody_on_another_lane(tmp_path):
    serving = Serving({"a": 0, "b": 1, "c": 1}, tmp_path)
    serving.until_all_decode(a=40)
    gate, model = threading.Event(), serving.executor.models["a"]

    def slow(step):
        return lambda *arguments: step(*arguments) if gate.wait(60) else pytest.fail("nobody has opened the gate")

    model.steps = {shape: slow(step) for shape, step in model.steps.items()}
    assert_others_end_before(gate, serving)


def test_a_launch_that_fails_in_a_lane_s_thread_is_tried_again_and_costs_no_token(wanted, tmp_path):
    serving = Serving({"a": 1, "b": 0, "c": 1}, tmp_path)
    refused_for_a_while(3)(serving.executor.models["a"])
    serving.submit()
    serving.turns()
    assert serving.tokens() == wanted


def test_a_defect_of_a_launch_is_raised_where_the_loop_looks_for_steps(tmp_path):
    serving = Serving({"a": 0, "b": 1, "c": 1}, tmp_path)
    lane = serving.executor.lanes[1]
    lane._fly = lambda flight: 1 / 0
    serving.submit()
    with pytest.raises(ZeroDivisionError):
        serving.turns()


def test_what_waits_for_its_launch_is_dropped_with_what_is_in_flight(tmp_path):
    serving = Serving({"a": 0, "b": 1, "c": 1}, tmp_path)
    gate, lane = threading.Event(), serving.executor.lanes[1]
    lane.submit(gate.wait, 60)
    serving.submit()
    for step in serving.unit.commit(by_name("adbs")(serving.unit.view(0.0)), now_s=0.0):
        serving.executor.launch(step)
    threading.Timer(0.1, gate.set).start()
    lane.drop()
    assert not lane.is_busy and not lane.is_flying and lane.landed() == []


def test_a_model_that_goes_leaves_its_lane_to_others(tmp_path):
    executor = make_executor({"a": 0, "b": 1, "c": 1}, tmp_path)
    executor.remove("b")
    executor.remove("b")
    assert [set(lane.models) for lane in executor.lanes] == [{"a"}, {"c"}] and set(executor.models) == {"a", "c"}


def test_what_a_step_takes_with_it_is_lost_to_the_models_that_came_after_its_launch(tmp_path):
    serving = Serving({"a": 1, "b": 0, "c": 1}, tmp_path)
    comer = serving.executor.models["c"]
    serving.executor.lanes[1].models = {"a": serving.executor.models["a"]}
    fails_while_it_runs(serving.executor.models["a"])
    serving.unit.submit(Request(id="a", model="a", prompt=(1, 2), sampling=Sampling(max_tokens=2), arrival_s=0.0))
    (step,) = serving.unit.commit(by_name("adbs")(serving.unit.view(0.0)), now_s=0.0)
    serving.executor.launch(step)
    serving.executor.add("c", comer)
    (done,) = serving.executor.collect(wait=True)
    assert done.fault and done.fault.lost_models == {"a", "c"}


def test_a_try_that_is_due_while_another_launch_takes_long_is_asked_for_once_and_keeps_nobody_turning(tmp_path):
    now_s, gate, asked = [0.0], threading.Event(), []
    serving = Serving({"a": 1, "b": 0, "c": 1}, tmp_path, clock=lambda: now_s[0])
    executor, lane = serving.executor, serving.executor.lanes[1]
    refused_for_a_while(1)(executor.models["a"])
    serving.unit.submit(Request(id="a", model="a", prompt=(1, 2), sampling=Sampling(max_tokens=1), arrival_s=0.0))
    (step,) = serving.unit.commit(by_name("adbs")(serving.unit.view(0.0)), now_s=0.0)
    executor.launch(step)
    lane.submit(list).result()  # it has failed by now
    lane.submit(gate.wait)
    at_once = lane.submit
    lane.submit = lambda *call: asked.append(call) or at_once(*call)
    now_s[0] = 1.0
    for _ in range(3):
        assert executor.collect(wait=False) == []
    assert len(asked) == 1 and lane.due_s is None
    gate.set()
    (done,) = executor.collect(wait=True)
    assert done.step_id == step.id and done.fault is None
