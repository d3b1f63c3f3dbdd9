"""Models that fail, come, go and rest, requests that are cancelled, arenas that change: nobody is forgotten, nobody pays for another."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.engine.loop import turn
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.stats import Status
from muxjax.engine.unit import Unit
from muxjax.errors import ConfigError, RequestError
from muxjax.scheduler.policies import BY_NAME
from muxjax.types import Finish, Output, Request, Sampling
from tests.engine.speculation.kit import speculating_unit
from tests.engine.test_unit import LANES, LARGEST, LAYOUTS, MAX_TOKENS, ONE_LANE, expected_tokens, make_unit, requests
from tests.fake_device import FakeClock
from tests.faulty_device import BROKEN, LOST, NAN, FaultyDevice


@dataclass
class World:
    """A unit, its device, and what has been said of each request."""

    device: FaultyDevice
    clock: FakeClock
    total_blocks: int
    look_ahead: int = 2
    kind: type[Unit] = Unit
    hits: tuple[bool, ...] = ()
    lanes: Mapping[str, int] = field(default_factory=lambda: ONE_LANE)
    accepted: dict[str, Request] = field(default_factory=dict)
    refused: list[RequestError] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    outputs: dict[str, list[Output]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self):
        options = {"total_blocks": self.total_blocks, "look_ahead": self.look_ahead, "kind": self.kind, "lanes": self.lanes}
        self.unit = speculating_unit(self.hits, layouts=LAYOUTS, **options) if self.hits else make_unit(**options)

    def submit(self, request: Request) -> None:
        try:
            self.unit.checker.check(request)
        except RequestError as error:
            self.refused.append(error)
            return
        is_twin = request.id in self.unit.unfinished
        assert bool(self.unit.submit(request)) == is_twin, "a request that has passed the checker is taken, but for a twin"
        self.accepted[request.id] = request

    def cancel(self, request_id: str) -> None:
        self.cancelled.add(request_id)
        self.say(self.unit.cancel(request_id, now_s=self.clock.now_s()))

    def close(self, model: str) -> None:
        if self.has(model) and self.unit.status(model) is Status.READY:
            self.unit.turn_to(model, Status.DRAINING)

    def settle(self, model: str) -> None:
        """What has drained rests; what rests wakes; what has failed goes; what has gone comes."""
        if not self.has(model):
            self.device.broken.discard(model)
            self.unit.add(ModelConfig(name=model, layout=LAYOUTS[model], slots=2, max_tokens=MAX_TOKENS, lane=self.lanes[model]))
        elif self.unit.status(model) is Status.ASLEEP:
            self.unit.turn_to(model, Status.READY)
        elif not self.unit.busy(model) and self.unit.status(model) is Status.DRAINING:
            self.unit.turn_to(model, Status.ASLEEP)
        elif not self.unit.busy(model) and self.unit.status(model) is Status.FAILED:
            self.unit.remove(model)

    def resize(self, blocks: int) -> None:
        try:
            self.unit.resize(blocks)
            self.device.renew()
        except ConfigError:
            assert blocks < LARGEST

    def has(self, model: str) -> bool:
        return any(each.name == model for each in self.unit.stats().models)

    def say(self, outputs: list[Output]) -> None:
        for output in outputs:
            self.outputs[output.request_id].append(output)


def events(todo: list[Request]):
    names = st.sampled_from(sorted(LAYOUTS))
    return st.one_of(
        st.tuples(st.just(World.cancel), st.sampled_from([request.id for request in todo])),
        st.tuples(st.just(World.submit), st.sampled_from(todo)),
        st.tuples(st.just(World.close), names),
        st.tuples(st.just(World.settle), names),
        st.tuples(st.just(World.resize), st.integers(LARGEST // 2, 2 * LARGEST)),
    )


def run(world: World, policy, todo: list[Request], happens: dict[int, list]) -> None:
    """To the end of all that was accepted; a request comes every other turn."""
    waiting = list(todo)
    for count in range(20_000):
        if waiting and count % 2 == 0:
            world.submit(waiting.pop(0))
        for event, argument in happens.get(count, ()):
            event(world, argument)
        if not world.unit.idle:
            world.say(turn(world.unit, policy, world.device, world.clock))
        elif not waiting and count > max(happens, default=0):
            return
    raise AssertionError("requests without an end")


@settings(max_examples=200)
@given(
    todo=st.lists(requests(), min_size=1, max_size=10, unique_by=lambda request: request.id),
    policy=st.sampled_from(sorted(BY_NAME)),
    look_ahead=st.integers(1, 3),
    spare_blocks=st.integers(0, 40),
    eager=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    faults=st.dictionaries(st.integers(0, 60), st.sampled_from([NAN, BROKEN, LOST]), max_size=4),
    lanes=LANES,
    order=st.lists(st.integers(0, 2), min_size=1, max_size=7),
    hits=st.just(()) | st.lists(st.booleans(), min_size=1, max_size=5).map(tuple),
    data=st.data(),
)
def test_every_accepted_request_ends_once_and_all_blocks_are_free_at_the_end(
    todo, policy, look_ahead, spare_blocks, eager, faults, lanes, order, hits, data
):
    clock = FakeClock()
    device = FaultyDevice(LAYOUTS, clock, eager=eager, order=order, faults=faults, lane_of=lanes)
    world = World(device, clock, LARGEST + spare_blocks, look_ahead, hits=hits, lanes=lanes)
    happens = data.draw(st.dictionaries(st.integers(0, 60), st.lists(events(todo), max_size=2), max_size=12))
    run(world, BY_NAME[policy], todo, happens)
    stats = world.unit.stats()
    assert stats.free_blocks == stats.total_blocks and not any(
        model.held_blocks or model.running or model.waiting for model in stats.models
    )
    assert set(world.outputs) == set(world.accepted)
    assert {error.status for error in world.refused} <= {503, 409, 404, 400}
    for request_id, request in world.accepted.items():
        check_end(world, request, world.outputs[request_id])
    serving = [model for model in stats.models if model.status in (Status.READY, Status.DRAINING)]
    dealt = sum(model.quota_blocks for model in serving)
    assert not serving or stats.total_blocks - len(LAYOUTS) < dealt <= stats.total_blocks  # at first they are dealt in equal parts


def check_end(world: World, request: Request, said: list[Output]) -> None:
    """A request that was submitted again after its end is answered again."""
    assert said[-1].finish is not None
    answer: list[int] = []
    for output in said:
        if output.token is not None:
            answer.append(output.token)
        if output.finish is None:
            continue
        tokens, answer = answer, []
        assert tokens == expected_tokens(request)[: len(tokens)]
        if output.finish is Finish.ABORT:
            assert request.id in world.cancelled
        elif output.finish is Finish.FAILED:
            assert request.model in world.device.faulted
        else:
            assert tokens == expected_tokens(request)


@pytest.mark.parametrize("kind", [NAN, BROKEN, LOST])
def test_a_fault_ends_one_models_requests_and_no_others(kind):
    clock = FakeClock()
    world = World(FaultyDevice(LAYOUTS, clock, faults={6: kind}), clock, 2 * LARGEST)
    todo = [Request(id=str(i), model="abc"[i % 3], prompt=(i, 2), sampling=Sampling(max_tokens=20), arrival_s=0.0) for i in range(6)]
    for request in todo:
        world.submit(request)
    run(world, BY_NAME["adbs"], [], {})
    (failed,) = [model.name for model in world.unit.stats().models if model.status is Status.FAILED]
    ends = {request.id: world.outputs[request.id][-1].finish for request in todo}
    assert ends == {request.id: Finish.FAILED if request.model == failed else Finish.LENGTH for request in todo}
    late = Request(id="late", model=failed, prompt=(1,), sampling=Sampling(), arrival_s=0.0)
    with pytest.raises(RequestError, match="has failed") as refusal:
        world.unit.checker.check(late)
    assert (refusal.value.status, refusal.value.code) == (503, "model_failed")
    assert world.unit.submit(late) == [Output("late", None, Finish.FAILED, 0.0)]


class Trusting(Unit):
    """Takes an arena that was lost for one whose contents are still there."""

    def forget(self, models: Collection[str]) -> None:
        self._flights.clear()
        for state in self._states.values():
            state.slots.flights[:] = state.in_flight = 0


def test_the_device_notices_a_unit_that_goes_on_with_a_lost_arena():
    clock = FakeClock()
    world = World(FaultyDevice(LAYOUTS, clock, faults={6: LOST}), clock, 2 * LARGEST, kind=Trusting)
    for i in range(6):
        world.submit(Request(id=str(i), model="abc"[i % 3], prompt=(i, 2), sampling=Sampling(max_tokens=20), arrival_s=0.0))
    with pytest.raises((KeyError, AssertionError)):
        run(world, BY_NAME["adbs"], [], {})


def test_blocks_that_a_model_leaves_go_to_the_others_and_come_back():
    world = World(FaultyDevice(LAYOUTS, FakeClock(), faults={}), FakeClock(), 300)
    quotas = {model.name: model.quota_blocks for model in world.unit.stats().models}
    world.close("b")
    world.settle("b")
    assert {model.name: model.status for model in world.unit.stats().models}["b"] is Status.ASLEEP
    rest = {model.name: model.quota_blocks for model in world.unit.stats().models if model.name != "b"}
    assert sum(rest.values()) == 300 and all(rest[name] > quotas[name] for name in rest)
    with pytest.raises(RequestError, match="asleep") as refusal:
        world.unit.checker.check(Request(id="r", model="b", prompt=(1,), sampling=Sampling(), arrival_s=0.0))
    assert (refusal.value.status, refusal.value.code) == (503, "model_loading")
    world.settle("b")
    assert sum(model.quota_blocks for model in world.unit.stats().models) == 300


def test_a_request_that_would_not_fit_keeps_the_arena_from_shrinking():
    world = World(FaultyDevice(LAYOUTS, FakeClock(), faults={}), FakeClock(), 2 * LARGEST)
    world.submit(Request(id="r", model="a", prompt=(1,), sampling=Sampling(max_tokens=MAX_TOKENS - 1), arrival_s=0.0))
    with pytest.raises(ConfigError, match=f"needs? {LARGEST} head blocks"):
        world.unit.resize(LARGEST - 1)
    world.unit.resize(LARGEST)
