"""A unit under any policy, arrival, cancel and arena size, on a device that looks at every block it reads."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.cache.layout import CacheLayout
from muxjax.engine.executor import SAMPLED, Done, Step
from muxjax.engine.loop import turn
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.model.sequence import Stage
from muxjax.engine.model.state import ModelState
from muxjax.engine.speculation.method import Speculation
from muxjax.engine.unit import Unit
from muxjax.errors import RequestError
from muxjax.scheduler.policies import BY_NAME
from muxjax.scheduler.view import Chunk, Job, StepPlan
from muxjax.types import Finish, Output, Phase, Request, Sampling
from tests.fake_device import FakeClock, FakeDevice, continuation

MAX_TOKENS = 40
LAYOUTS = {
    "a": CacheLayout(windows=(None, 6), kv_heads=2, head_dim=16, element_bytes=4, block_bytes=512),
    "b": CacheLayout(windows=(None,), kv_heads=1, head_dim=32, element_bytes=4, block_bytes=512),
    "c": CacheLayout(windows=(5, 5), kv_heads=1, head_dim=16, element_bytes=4, block_bytes=512),
    "d": CacheLayout(windows=(None, 6), kv_heads=1, head_dim=32, element_bytes=1, block_bytes=512),  # FP8
}
LARGEST = max(layout.blocks(MAX_TOKENS - 1) for layout in LAYOUTS.values())


ONE_LANE = dict.fromkeys(LAYOUTS, 0)
LANES = st.sampled_from([ONE_LANE, {"a": 0, "b": 1, "c": 2, "d": 1}, {"a": 1, "b": 0, "c": 1, "d": 0}])


def make_unit(
    *,
    total_blocks: int,
    token_budget: int = 8,
    look_ahead: int = 2,
    slots: int = 4,
    kind: type[Unit] = Unit,
    every_token: bool = True,
    lanes: Mapping[str, int] = ONE_LANE,
    layouts: Mapping[str, CacheLayout] = LAYOUTS,
    speculation: Speculation | None = None,
) -> Unit:
    configs = [
        ModelConfig(name=name, layout=layout, slots=slots, max_tokens=MAX_TOKENS, lane=lanes[name], speculation=speculation)
        for name, layout in layouts.items()
    ]
    return kind(configs, total_blocks=total_blocks, token_budget=token_budget, max_rows=4, look_ahead=look_ahead, every_token=every_token)


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
    lanes=LANES,
    order=st.lists(st.integers(0, 2), min_size=1, max_size=7),
    data=st.data(),
)
def test_every_request_gets_its_tokens_whatever_happens_around_it(
    todo, policy, spare_blocks, look_ahead, token_budget, eager, lanes, order, data
):
    victims = data.draw(st.lists(st.sampled_from(todo), max_size=3))
    cancels = {data.draw(st.integers(0, 60)): victim.id for victim in victims}
    unit = make_unit(total_blocks=LARGEST + spare_blocks, look_ahead=look_ahead, token_budget=token_budget, lanes=lanes)
    clock = FakeClock()
    outputs = run(unit, BY_NAME[policy], FakeDevice(LAYOUTS, clock, eager=eager, order=order), clock, todo, cancels)
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
    (step,) = unit.commit(StepPlan(jobs=(Job(model="b", chunks=chunks),)), now_s=0.0)
    first, second = step.slots
    step.delta.ids[step.delta.slots == second] = step.delta.ids[step.delta.slots == first]
    with pytest.raises(AssertionError, match=r"holds \('b', 0, 0, \(4,\)\), not \('b', 0, 0, \(1,\)\)"):
        device.launch(step)


def test_the_law_notices_blocks_that_go_to_another_lane_before_the_step_that_holds_them_has_ended(monkeypatch):
    def hasty(state, sequence):
        state._move(sequence, Stage.ENDED)
        state.tables.release(sequence.slot)

    monkeypatch.setattr(ModelState, "end", hasty)
    unit, clock = make_unit(total_blocks=LARGEST, lanes={"a": 0, "b": 1, "c": 2, "d": 1}), FakeClock()
    device = FakeDevice(LAYOUTS, clock, order=[1])
    for name, model in {"first": "a", "next": "b"}.items():
        unit.submit(Request(id=name, model=model, prompt=(1,) * 30, sampling=Sampling(max_tokens=9), arrival_s=0.0))
    (step,) = unit.commit(StepPlan(jobs=(Job(model="a", chunks=(Chunk(request_id="first", tokens=30),)),)), now_s=0.0)
    device.launch(step)
    unit.cancel("first", now_s=0.0)
    (other,) = unit.commit(StepPlan(jobs=(Job(model="b", chunks=(Chunk(request_id="next", tokens=30),), lane=1),)), now_s=0.0)
    assert np.intersect1d(step.delta.ids, other.delta.ids).size
    device.launch(other)
    with pytest.raises(AssertionError, match="holds"):
        device.collect(wait=True), device.collect(wait=True)


def unmixed(policy):
    """The policy without its mixed steps: what a model decodes waits until it has nothing to prefill."""

    def plan(view):
        found = policy(view)
        return replace(found, jobs=tuple(Job(model=job.model, chunks=job.chunks) if job.chunks else job for job in found.jobs))

    return plan


@settings(max_examples=50)
@given(
    todo=st.lists(requests(), min_size=4, max_size=10, unique_by=lambda request: request.id),
    policy=st.sampled_from(sorted(BY_NAME)),
    token_budget=st.integers(2, 40),
)
def test_mixing_changes_no_token(todo, policy, token_budget):
    found = []
    for plan in (BY_NAME[policy], unmixed(BY_NAME[policy])):
        unit, clock = make_unit(total_blocks=4 * LARGEST, token_budget=token_budget), FakeClock()
        outputs = run(unit, plan, FakeDevice(LAYOUTS, clock), clock, todo, {})
        found.append({name: [(output.token, output.finish) for output in events] for name, events in outputs.items()})
    assert found[0] == found[1]


@pytest.mark.parametrize("policy", sorted(BY_NAME))
def test_mixed_steps_happen_and_their_tokens_count_by_row(policy):
    todo = [Request(id=str(i), model="a", prompt=(i,) * 20, sampling=Sampling(max_tokens=19), arrival_s=0.1 * i) for i in range(4)]
    stats = []
    for plan in (BY_NAME[policy], unmixed(BY_NAME[policy])):
        unit, clock = make_unit(total_blocks=4 * LARGEST), FakeClock()
        run(unit, plan, FakeDevice(LAYOUTS, clock), clock, todo, {})
        stats.append(next(model for model in unit.stats().models if model.name == "a"))
    mixing, apart = stats
    assert mixing.mixed_steps > 0 and apart.mixed_steps == 0
    assert (mixing.prefill_tokens, mixing.decode_tokens) == (apart.prefill_tokens, apart.decode_tokens) == (4 * 20, 4 * 18)


class Mixing:
    """A unit in which x, of 4 tokens in 2 full columns, decodes while the first 2 tokens of y, of 3, are prefilled."""

    def __init__(self):
        self.unit, self.clock = make_unit(total_blocks=LARGEST), FakeClock()
        self.device = FakeDevice(LAYOUTS, self.clock)
        self.submit("x", (1, 2, 3, 4))
        (first,) = self.commit(Job(model="b", chunks=(Chunk(request_id="x", tokens=4),)))
        self.outputs = self.finish(first)
        self.submit("y", (5, 6, 7))
        (self.step,) = self.commit(Job(model="b", chunks=(Chunk(request_id="y", tokens=2),), decode=True, grow=1))

    def submit(self, name: str, prompt: tuple[int, ...]) -> None:
        self.unit.submit(Request(id=name, model="b", prompt=prompt, sampling=Sampling(max_tokens=5), arrival_s=0.0))

    def commit(self, job: Job) -> list[Step]:
        return self.unit.commit(StepPlan(jobs=(job,)), now_s=0.0)

    def finish(self, step: Step) -> list[Output]:
        self.device.launch(step)
        return self.unit.record(self.device.collect(wait=True))


def test_decodes_come_first_in_a_mixed_step_and_one_delta_grows_and_admits():
    step = Mixing().step
    assert (step.decodes, step.phase) == (1, Phase.PREFILL)
    assert step.starts.tolist() == [4, 0] and step.counts.tolist() == [1, 2] and step.tokens.tolist() == [SAMPLED, 5, 6]
    x, y = step.slots.tolist()
    assert list(zip(step.delta.slots.tolist(), step.delta.columns.tolist(), strict=True)) == [(x, 2), (y, 0), (y, 1)]


def test_a_mixed_step_moves_both_turns_and_counts_tokens_by_row():
    mixing = Mixing()
    model = mixing.unit.view(0.0).models[1]
    assert model.last_prefill == model.last_decode == mixing.step.id
    stats = mixing.unit.stats().models[1]
    assert (stats.prefill_steps, stats.decode_steps, stats.mixed_steps) == (1, 0, 1)
    assert (stats.prefill_tokens, stats.decode_tokens) == (4 + 2, 1)


def test_an_unfinished_chunk_of_a_mixed_step_yields_no_token():
    mixing = Mixing()
    x = continuation("b", (1, 2, 3, 4), 2)
    outputs = mixing.outputs + mixing.finish(mixing.step)
    assert [(output.request_id, output.token) for output in outputs] == [("x", x[0]), ("x", x[1])]


def test_the_device_notices_a_chunk_among_the_decodes():
    mixing = Mixing()
    with pytest.raises(AssertionError, match="a row among the decodes is none"):
        mixing.finish(replace(mixing.step, decodes=2))


def test_the_device_notices_a_slot_with_two_rows():
    mixing = Mixing()
    with pytest.raises(AssertionError, match="a slot has two rows"):
        mixing.finish(replace(mixing.step, slots=mixing.step.slots[[0, 0]]))


def test_the_law_notices_tokens_that_reach_the_wrong_rows():
    class Swapping(FakeDevice):
        def collect(self, *, wait):
            return [replace(done, tokens=done.tokens[::-1]) for done in super().collect(wait=wait)]

    todo = [Request(id=str(i), model="a", prompt=(i,) * 5, sampling=Sampling(max_tokens=19), arrival_s=0.1 * i) for i in range(2)]
    unit, clock = make_unit(total_blocks=4 * LARGEST), FakeClock()
    outputs = run(unit, BY_NAME["fcfs"], Swapping(LAYOUTS, clock), clock, todo, {})
    assert any([output.token for output in outputs[request.id]] != expected_tokens(request) for request in todo)


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
        unit.checker.check(request)
    assert refusal.value.status == status and unit.idle


class Comparing(Unit):
    """A unit that holds every view it keeps against one made anew."""

    def view(self, now_s):
        kept = super().view(now_s)
        for state in self._states.values():
            state._view = None
            state._launcher.forget_openings()
        assert super().view(now_s) == kept
        return kept


def replay_crowd(kind: type[Unit], policy: str, *, every_token: bool = True) -> dict[str, list[Output]]:
    """Nine requests in the smallest arena: they grow, are pre-empted, chunked and mixed."""
    todo = [Request(id=str(i), model="abc"[i % 3], prompt=(i,) * 9, sampling=Sampling(max_tokens=30), arrival_s=0.1 * i) for i in range(9)]
    unit, clock = make_unit(total_blocks=LARGEST, kind=kind, every_token=every_token), FakeClock()
    return run(unit, BY_NAME[policy], FakeDevice(LAYOUTS, clock), clock, todo, {})


@pytest.mark.parametrize("policy", sorted(BY_NAME))
def test_a_kept_view_is_what_a_new_one_would_be(policy):
    assert len(replay_crowd(Comparing, policy)) == 9


@pytest.mark.parametrize("forgotten", ["_changed", "land"])
def test_the_law_notices_a_change_that_leaves_the_view_as_it_was(forgotten, monkeypatch):
    change = getattr(ModelState, forgotten)

    def forgetful(state, *step):
        kept = state._view, state._launcher._openings
        change(state, *step)
        state._view, state._launcher._openings = kept

    monkeypatch.setattr(ModelState, forgotten, forgetful)
    with pytest.raises(AssertionError):
        replay_crowd(Comparing, "adbs")


@pytest.mark.parametrize("policy", sorted(BY_NAME))
def test_where_nobody_reads_tokens_only_the_last_of_prefills_and_requests_are_put_out(policy):
    full, brief = replay_crowd(Unit, policy), replay_crowd(Unit, policy, every_token=False)
    for name, outputs in full.items():
        assert brief[name][0] == outputs[0] and brief[name][-1] == outputs[-1]
        assert set(brief[name]) < set(outputs)


@pytest.mark.parametrize(("look_ahead", "waits"), [(1, True), (2, False)])
def test_a_turn_waits_when_nothing_more_can_be_launched(look_ahead, waits):
    unit, clock = make_unit(total_blocks=LARGEST, look_ahead=look_ahead), FakeClock()
    device = FakeDevice(LAYOUTS, clock, eager=[0])
    unit.submit(Request(id="r", model="b", prompt=(1, 2), sampling=Sampling(max_tokens=5), arrival_s=0.0))
    assert bool(turn(unit, BY_NAME["adbs"], device, clock)) is waits


@pytest.mark.parametrize(("sm_share", "token_s"), [(None, 1.0), (66, 0.5)])
def test_a_step_keeps_to_the_share_of_its_job_and_teaches_what_all_would_have_taken(sm_share, token_s):
    config = ModelConfig(name="a", layout=LAYOUTS["a"], slots=2, max_tokens=MAX_TOKENS, sm_shares=(66, 132))
    unit = Unit([config], total_blocks=200, token_budget=8)
    unit.submit(Request(id="r", model="a", prompt=(1, 2), sampling=Sampling(max_tokens=5), arrival_s=0.0))
    job = Job(model="a", chunks=(Chunk(request_id="r", tokens=2),), sm_share=sm_share)

    (step,) = unit.commit(StepPlan(jobs=(job,)), now_s=0.0)
    unit.record([Done(step_id=step.id, tokens=np.zeros(1, np.int32), at_s=2.0)])

    assert step.sm_share == sm_share
    assert unit.view(2.0).models[0].pace.token_s == token_s


def test_steps_run_on_the_lane_of_their_model():
    config = ModelConfig(name="b", layout=LAYOUTS["b"], slots=2, max_tokens=MAX_TOKENS)
    unit = Unit([replace(config, name=name, lane=lane) for name, lane in (("b", 0), ("c", 3))], total_blocks=200, token_budget=8)
    for name in "bc":
        unit.submit(Request(id=name, model=name, prompt=(1, 2), sampling=Sampling(max_tokens=5), arrival_s=0.0))
    lanes: dict[str, int] = {}
    for policy in BY_NAME.values():
        steps = unit.commit(policy(unit.view(0.0)), now_s=0.0)
        lanes |= {step.model: step.lane for step in steps}
        unit.record([Done(step_id=step.id, tokens=np.zeros(len(step.slots), np.int32), at_s=0.0) for step in steps])
    assert lanes == {"b": 0, "c": 3}
