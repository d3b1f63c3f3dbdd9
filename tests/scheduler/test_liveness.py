"""No request waits for ever: the real unit under every policy, with arenas down to the largest single request."""

import random
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.cache.layout import CacheLayout
from muxjax.engine.executor import Done
from muxjax.engine.loop import turn
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.unit import Unit
from muxjax.scheduler.policies import BY_NAME
from muxjax.scheduler.view import Job, StepPlan
from muxjax.simulate.executor import SimulatedClock
from muxjax.types import Finish, Request, Sampling

LAYOUTS = {
    "small": CacheLayout(windows=(None,), kv_heads=1, head_dim=4, element_bytes=2, block_bytes=32),  # 2 tokens a column of 1
    "large": CacheLayout(windows=(None, None, None), kv_heads=2, head_dim=4, element_bytes=2, block_bytes=64),  # 4 a column of 6
    "windowed": CacheLayout(windows=(3, None), kv_heads=1, head_dim=4, element_bytes=2, block_bytes=32),  # 2 a column of 2
}
MAX_TOKENS = 24
MOST_TURNS = 20_000


@dataclass(frozen=True)
class Ask:
    model: str
    prompt: int
    output: int
    at_turn: int
    cancelled_at: int | None
    tenant: str = ""
    priority: int = 0


class ShuffledExecutor:
    """Steps of different models end in any order, some of them late."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)
        self._flying: dict[str, list] = {}

    def launch(self, step) -> None:
        self._flying.setdefault(step.model, []).append(step)

    def collect(self, *, wait: bool) -> list[Done]:
        models = [model for model, steps in self._flying.items() if steps]
        if not models or (not wait and self._random.random() < 0.5):
            return []
        step = self._flying[self._random.choice(models)].pop(0)
        return [Done(step_id=step.id, tokens=np.zeros(len(step.slots), np.int32), at_s=0.0)]


asks = st.builds(
    Ask,
    model=st.sampled_from(sorted(LAYOUTS)),
    prompt=st.integers(1, 8),
    output=st.integers(1, 16),
    at_turn=st.integers(0, 40),
    cancelled_at=st.none() | st.none() | st.integers(0, 80),
    tenant=st.sampled_from(["", "light", "heavy"]),
    priority=st.sampled_from([0, 0, -100, 100, 2]),
)


def largest_blocks(wanted: list[Ask]) -> int:
    return max(LAYOUTS[ask.model].blocks(ask.prompt + ask.output - 1) for ask in wanted)


def make_unit(
    total_blocks: int, *, slots: int, token_budget: int, max_rows: int, look_ahead: int, lanes: int = 1, ttft_s: float | None = None
) -> Unit:
    members = [
        ModelConfig(name=name, layout=layout, slots=slots, max_tokens=MAX_TOKENS, lane=i % lanes, ttft_s=ttft_s, tpot_s=ttft_s)
        for i, (name, layout) in enumerate(LAYOUTS.items())
    ]
    return Unit(members, total_blocks=total_blocks, token_budget=token_budget, max_rows=max_rows, look_ahead=look_ahead)


def request_of(request_id: str, ask: Ask) -> Request:
    return Request(
        id=request_id,
        model=ask.model,
        prompt=(1,) * ask.prompt,
        sampling=Sampling(max_tokens=ask.output),
        arrival_s=ask.at_turn,
        priority=ask.priority,
        tenant=ask.tenant,
        weight=3.0 if ask.tenant == "heavy" else 1.0,
    )


def serve(unit: Unit, policy, wanted: list[Ask], seed: int) -> Counter:
    """Runs everything to its end; how often each request ended."""
    executor, clock, ends, turns = ShuffledExecutor(seed), SimulatedClock(), Counter(), 0
    while turns <= max((ask.at_turn for ask in wanted), default=0) or not unit.idle:
        for i, ask in enumerate(wanted):
            if ask.at_turn == turns:
                unit.submit(request_of(f"{i:03}", ask))
            if ask.cancelled_at == turns:
                ends.update(output.request_id for output in unit.cancel(f"{i:03}", now_s=turns))
        if not unit.idle:
            ends.update(output.request_id for output in turn(unit, policy, executor, clock) if output.finish)
        clock.advance_to(clock.now_s() + 0.1)
        turns += 1
        assert turns < MOST_TURNS, f"{len(unit.unfinished)} requests wait for ever"
    return ends


@pytest.mark.parametrize("name", BY_NAME)
@settings(max_examples=60)
@given(
    wanted=st.lists(asks, min_size=1, max_size=24),
    spare_blocks=st.integers(0, 60) | st.just(0),
    slots=st.integers(1, 6),
    token_budget=st.integers(1, 40),
    max_rows=st.integers(1, 4),
    look_ahead=st.integers(1, 3),
    lanes=st.integers(1, 3),
    ttft_s=st.sampled_from([None, 0.3, 3.0]),
    seed=st.integers(0, 2**16),
)
def test_every_request_ends_once_and_all_blocks_come_back(name, wanted, spare_blocks, slots, token_budget, max_rows, seed, **unit_options):
    total_blocks = largest_blocks(wanted) + spare_blocks
    unit = make_unit(total_blocks, slots=slots, token_budget=token_budget, max_rows=max_rows, **unit_options)

    ends = serve(unit, BY_NAME[name], wanted, seed)

    cancelled_before = {f"{i:03}" for i, ask in enumerate(wanted) if ask.cancelled_at is not None and ask.cancelled_at < ask.at_turn}
    assert set(ends) | cancelled_before == {f"{i:03}" for i in range(len(wanted))} | cancelled_before
    assert set(ends.values()) == {1}
    assert unit.stats().free_blocks == total_blocks


CROWD = [Ask("large", 4, 16, 0, None)] * 3 + [Ask("small", 8, 16, 0, None)] * 2


@pytest.mark.parametrize("name", BY_NAME)
def test_a_crowd_in_a_tight_arena_needs_preemption(name):
    unit = make_unit(largest_blocks(CROWD) + 6, slots=4, token_budget=64, max_rows=4, look_ahead=2)

    ends = serve(unit, BY_NAME[name], CROWD, seed=0)

    assert ends.total() == len(CROWD)
    assert sum(model.preemptions for model in unit.stats().models) > 0


@pytest.mark.parametrize("name", BY_NAME)
def test_the_law_notices_a_policy_that_never_preempts(name):
    def stubborn(view):
        plan = BY_NAME[name](view)
        return StepPlan(jobs=plan.jobs, quotas=plan.quotas)

    unit = make_unit(largest_blocks(CROWD) + 6, slots=4, token_budget=64, max_rows=4, look_ahead=2)

    with pytest.raises(AssertionError, match="nothing in flight"):
        serve(unit, stubborn, CROWD, seed=0)


def turns_to_answer(policy) -> int:
    """Turns until a request has its 16 tokens while, each turn, a new one comes for its model."""
    unit, executor, clock = make_unit(400, slots=4, token_budget=8, max_rows=4, look_ahead=2), ShuffledExecutor(0), SimulatedClock()
    for turns in range(200):
        sampling = Sampling(max_tokens=16 if turns == 0 else 1)
        unit.submit(Request(id=f"{turns:03}", model="small", prompt=(1,) * 8, sampling=sampling, arrival_s=turns))
        if any(output.finish and output.request_id == "000" for output in turn(unit, policy, executor, clock)):
            break
    return turns


@pytest.mark.parametrize("name", BY_NAME)
def test_decodes_go_on_under_an_endless_stream_of_prefills(name):
    def unmixed(view):
        plan = BY_NAME[name](view)
        return replace(plan, jobs=tuple(Job(model=job.model, chunks=job.chunks) if job.chunks else job for job in plan.jobs))

    assert turns_to_answer(BY_NAME[name]) < 60
    if name != "adbs":  # which lets a model decode while its prefill is in flight
        assert turns_to_answer(unmixed) == 199


def test_a_preempted_request_keeps_its_tokens():
    unit = make_unit(largest_blocks(CROWD) + 6, slots=4, token_budget=64, max_rows=4, look_ahead=2)
    for i, ask in enumerate(CROWD):
        unit.submit(Request(id=str(i), model=ask.model, prompt=(1,) * ask.prompt, sampling=Sampling(max_tokens=ask.output), arrival_s=i))
    executor, clock, outputs = ShuffledExecutor(0), SimulatedClock(), []

    while not unit.idle:
        outputs += turn(unit, BY_NAME["fcfs"], executor, clock)

    assert sum(model.preemptions for model in unit.stats().models) > 0
    assert Counter(output.request_id for output in outputs) == {str(i): ask.output for i, ask in enumerate(CROWD)}
    assert [output.finish for output in outputs if output.finish] == [Finish.LENGTH] * len(CROWD)
