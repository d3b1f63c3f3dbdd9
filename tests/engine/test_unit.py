"""A unit under any policy, arrival, cancel and arena size, on a device that looks at every block it reads."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.cache.layout import CacheLayout
from muxjax.engine.loop import turn
from muxjax.engine.resident import Member
from muxjax.engine.unit import Unit
from muxjax.errors import RequestError
from muxjax.scheduler.policies import BY_NAME
from muxjax.scheduler.view import Chunk, Prefill, StepPlan
from muxjax.types import Finish, Request, Sampling
from tests.fake_device import FakeClock, FakeDevice, continuation

MAX_TOKENS = 40
LAYOUTS = {
    "a": CacheLayout(windows=(None, 6), kv_heads=2, head_dim=16, element_bytes=4, block_bytes=512),
    "b": CacheLayout(windows=(None,), kv_heads=1, head_dim=32, element_bytes=4, block_bytes=512),
    "c": CacheLayout(windows=(5, 5), kv_heads=1, head_dim=16, element_bytes=4, block_bytes=512),
}
LARGEST = max(layout.blocks(MAX_TOKENS - 1) for layout in LAYOUTS.values())


def make_unit(*, total_blocks: int, token_budget: int = 8, look_ahead: int = 2, slots: int = 4) -> Unit:
    quota = total_blocks // len(LAYOUTS)
    members = [
        Member(name=name, layout=layout, slots=slots, max_tokens=MAX_TOKENS, quota_blocks=quota, floor_blocks=quota // 2)
        for name, layout in LAYOUTS.items()
    ]
    return Unit(members, total_blocks=total_blocks, token_budget=token_budget, max_rows=4, look_ahead=look_ahead)


@st.composite
def requests(draw):
    prompt = draw(st.lists(st.integers(0, 49), min_size=1, max_size=MAX_TOKENS - 1))
    return Request(
        id=draw(st.uuids()).hex,
        model=draw(st.sampled_from(sorted(LAYOUTS))),
        prompt=tuple(prompt),
        sampling=Sampling(
            max_tokens=draw(st.integers(1, MAX_TOKENS - len(prompt))),
            stop_token_ids=frozenset(draw(st.sets(st.integers(0, 49), max_size=2))),
        ),
        arrival_s=draw(st.floats(0, 1)),
    )


def expected_tokens(request: Request) -> list[int]:
    tokens = continuation(request.model, request.prompt, request.sampling.max_tokens)
    stops = [i for i, token in enumerate(tokens) if token in request.sampling.stop_token_ids]
    return tokens[: stops[0] + 1] if stops else tokens


def run(unit: Unit, policy, device: FakeDevice, clock: FakeClock, todo: list[Request], cancels: dict[int, str]):
    """Outputs of each request, by id; `cancels` maps a turn to the request cancelled before it."""
    outputs = {request.id: [] for request in todo}
    todo = sorted(todo, key=lambda request: request.arrival_s)
    for count in range(20_000):
        while todo and (unit.idle or todo[0].arrival_s <= clock.now_s()):
            clock.advance_to(todo[0].arrival_s)
            unit.submit(todo.pop(0))
        new = unit.cancel(cancels[count], now_s=clock.now_s()) if count in cancels else []
        new += [] if unit.idle else turn(unit, policy, device, clock)
        for output in new:
            outputs[output.request_id].append(output)
        if unit.idle and not todo:
            return outputs
    raise AssertionError("requests without an end")


@settings(max_examples=150)
@given(
    todo=st.lists(requests(), min_size=1, max_size=10, unique_by=lambda request: request.id),
    policy=st.sampled_from(sorted(BY_NAME)),
    spare_blocks=st.integers(0, 40),
    look_ahead=st.integers(1, 3),
    token_budget=st.integers(2, 40),
    eager=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    data=st.data(),
)
def test_every_request_gets_its_tokens_whatever_happens_around_it(todo, policy, spare_blocks, look_ahead, token_budget, eager, data):
    victims = data.draw(st.lists(st.sampled_from(todo), max_size=3))
    cancels = {data.draw(st.integers(0, 60)): victim.id for victim in victims}
    unit = make_unit(total_blocks=LARGEST + spare_blocks, look_ahead=look_ahead, token_budget=token_budget)
    clock = FakeClock()
    outputs = run(unit, BY_NAME[policy], FakeDevice(LAYOUTS, clock, eager=eager), clock, todo, cancels)
    for request in todo:
        *_, last = outputs[request.id]
        assert [output.finish is not None for output in outputs[request.id]] == [False] * (len(outputs[request.id]) - 1) + [True]
        tokens = [output.token for output in outputs[request.id] if output.token is not None]
        if last.finish is Finish.ABORT:
            assert request.id in cancels.values() and tokens == expected_tokens(request)[: len(tokens)]
        else:
            assert tokens == expected_tokens(request)
    assert unit.stats().free_blocks == unit.stats().total_blocks and not any(model.held_blocks for model in unit.stats().models)


@pytest.mark.parametrize("policy", sorted(BY_NAME))
def test_a_small_arena_preempts_and_loses_nothing(policy):
    todo = [Request(id=str(i), model="abc"[i % 3], prompt=(i, 2, 3), sampling=Sampling(max_tokens=36), arrival_s=0.0) for i in range(9)]
    unit, clock = make_unit(total_blocks=LARGEST), FakeClock()
    outputs = run(unit, BY_NAME[policy], FakeDevice(LAYOUTS, clock), clock, todo, {})
    assert sum(model.preemptions for model in unit.stats().models) > 0
    assert all([output.token for output in outputs[r.id]] == continuation(r.model, r.prompt, 36) for r in todo)


def test_the_device_notices_a_block_that_another_sequence_overwrote():
    clock = FakeClock()
    device, unit = FakeDevice(LAYOUTS, clock), make_unit(total_blocks=LARGEST)
    for name, prompt in {"x": (1, 2, 3), "y": (4, 5, 6)}.items():
        unit.submit(Request(id=name, model="b", prompt=prompt, sampling=Sampling(max_tokens=5), arrival_s=0.0))
    chunks = tuple(Chunk(request_id=name, tokens=3) for name in "xy")
    (step,) = unit.commit(StepPlan(jobs=(Prefill(model="b", chunks=chunks),)), now_s=0.0)
    first, second = step.slots
    step.delta.ids[step.delta.slots == second] = step.delta.ids[step.delta.slots == first]
    device.launch(step)
    unit.record(device.collect(wait=True))
    with pytest.raises(AssertionError, match=r"holds \('b', 0, 0, \(4,\)\), not \('b', 0, 0, \(1,\)\)"):
        for _ in range(2):
            turn(unit, BY_NAME["fcfs"], device, clock)


@pytest.mark.parametrize(
    ("model", "prompt", "max_tokens", "total_blocks", "message", "status"),
    [
        ("z", 1, 1, 999, "The model `z` does not exist", 404),
        ("a", 30, 11, 999, "maximum context length is 40 tokens. However, you requested 41 tokens", 400),
        ("a", 30, 10, 39, "40 tokens need 40 head blocks of cache, and the server has 39", 400),
    ],
)
def test_what_can_never_be_served_is_refused_with_the_number(model, prompt, max_tokens, total_blocks, message, status):
    unit = make_unit(total_blocks=total_blocks)
    request = Request(id="r", model=model, prompt=(1,) * prompt, sampling=Sampling(max_tokens=max_tokens), arrival_s=0.0)
    with pytest.raises(RequestError, match=message) as refusal:
        unit.submit(request)
    assert refusal.value.status == status and unit.idle
