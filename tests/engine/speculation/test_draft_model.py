"""A model of the unit that drafts for another one changes no answer, and holds up nobody."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.engine.loop import turn
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.speculation import worth
from muxjax.engine.speculation.method import Speculation
from muxjax.engine.stats import Status
from muxjax.engine.unit import Unit
from muxjax.scheduler.policies import BY_NAME
from muxjax.types import Finish, Request, Sampling
from tests.engine.speculation.kit import MOST_DRAFTS, MOST_ROWS, WIDE
from tests.engine.speculation.test_answers import Recorder, check
from tests.engine.test_unit import MAX_TOKENS, requests, run
from tests.fake_device import VOCAB, FakeClock, FakeDevice, continuation

TARGET, TWIN, OTHER = "ab", "ba", "c"
"""The letters of a name decide what a model says: the twin says what its target does, and the other one something else."""
LAYOUTS = {TARGET: WIDE["a"], TWIN: WIDE["b"], OTHER: WIDE["c"]}
LARGEST = max(layout.blocks(MAX_TOKENS - 1) for layout in LAYOUTS.values())
NAMES = {"a": TARGET, "b": TWIN, "c": OTHER, "d": TARGET}


def make_unit(
    drafting: str = TWIN, *, total_blocks: int = 6 * LARGEST, vocab: int = VOCAB, slots: int = 4, twin_is_full: bool = False, **options
) -> Unit:
    drafts = {TARGET: Speculation(draft_model=drafting, most_drafts=MOST_DRAFTS, most_rows=MOST_ROWS)}
    configs = [
        ModelConfig(
            name=name,
            layout=layout,
            slots=1 if name == TWIN and twin_is_full else slots,
            max_tokens=MAX_TOKENS,
            lane=lane,
            speculation=drafts.get(name),
            vocab=vocab if name == TWIN else VOCAB,
        )
        for lane, (name, layout) in enumerate(LAYOUTS.items())
    ]
    return Unit(configs, total_blocks=total_blocks, token_budget=40, max_rows=4, **options)


def ask(count: int = 1, *, tokens: int = 30, **sampling) -> list[Request]:
    sampled = Sampling(max_tokens=tokens, **sampling)
    return [Request(id=str(i), model=TARGET, prompt=(i, 2, 3), sampling=sampled, arrival_s=0.0) for i in range(count)]


def answer(unit: Unit, todo: list[Request]) -> dict[str, list]:
    """Steps by model, once every answer has been looked at."""
    clock = FakeClock()
    device = Recorder(LAYOUTS, clock)
    outputs = run(unit, BY_NAME["mux"], device, clock, todo, {})
    for request in todo:
        check(request, outputs[request.id], cancelled=False)
    return {name: [step for step in device.steps if step.model == name] for name in LAYOUTS}


@settings(max_examples=200, deadline=None)
@given(
    todo=st.lists(requests(), min_size=1, max_size=10, unique_by=lambda request: request.id),
    policy=st.sampled_from(sorted(BY_NAME)),
    drafting=st.sampled_from([TWIN, OTHER, "gone"]),
    spare_blocks=st.integers(0, 30),
    look_ahead=st.integers(1, 3),
    eager=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    order=st.lists(st.integers(0, 2), min_size=1, max_size=7),
    data=st.data(),
)
def test_every_request_gets_its_tokens_whoever_drafts(todo, policy, drafting, spare_blocks, look_ahead, eager, order, data):
    todo = [replace(request, model=NAMES[request.model]) for request in todo]
    victims = data.draw(st.lists(st.sampled_from(todo), max_size=3))
    cancels = {data.draw(st.integers(0, 60)): victim.id for victim in victims}
    unit, clock = make_unit(drafting, total_blocks=LARGEST + spare_blocks, look_ahead=look_ahead), FakeClock()
    outputs = run(unit, BY_NAME[policy], FakeDevice(LAYOUTS, clock, eager=eager, order=order), clock, todo, cancels)
    for request in todo:
        check(request, outputs[request.id], cancelled=request.id in cancels.values())
    stats = unit.stats()
    assert stats.free_blocks == stats.total_blocks and unit.idle and not unit.drafting
    assert not any(model.running or model.waiting or model.held_blocks for model in stats.models)


def test_what_the_twin_drafts_is_right_and_saves_steps():
    unit = make_unit()
    steps, stats = answer(unit, ask()), unit.stats().models[0]
    assert stats.accepted_tokens == stats.draft_tokens > 15
    assert stats.decode_steps == 29 - stats.accepted_tokens
    assert steps[TWIN]


def test_a_draft_begins_where_the_last_one_ended_by_the_prefix_cache():
    unit = make_unit()
    prompt = tuple(range(20))
    answer(unit, [Request(id="x", model=TARGET, prompt=prompt, sampling=Sampling(max_tokens=19), arrival_s=0.0)])
    twin = unit.stats().models[1]
    assert twin.prefix_hits > 0
    assert twin.prefill_tokens < twin.prefix_queries - twin.prefix_hits + 1 + twin.prefill_steps * WIDE["b"].tokens_per_block


def test_who_says_something_else_is_soon_asked_no_more():
    unit = make_unit(OTHER, slots=2)
    steps = answer(unit, ask(8, tokens=37))
    drafted = [step for step in steps[TARGET] if step.drafts is not None]
    assert 0 < len(drafted) < 40 < len(steps[TARGET])
    assert unit.stats().models[0].accepted_tokens < len(drafted)


def test_a_sequence_does_not_wait_for_a_draft_that_finds_no_place():
    """The twin's slots are taken by its own requests; drafts are given up, and answers go on."""
    unit = make_unit(slots=1)
    own = [Request(id=f"own {i}", model=TWIN, prompt=(7, i), sampling=Sampling(max_tokens=30), arrival_s=0.0) for i in range(3)]
    clock = FakeClock()
    device = Recorder(LAYOUTS, clock)
    outputs = run(unit, BY_NAME["mux"], device, clock, [*own, *ask()], {})
    assert [output.token for output in outputs["0"]] == continuation(TARGET, (0, 2, 3), 30)
    last = max(outputs["0"][-1].at_s, 0.0)
    assert last < outputs["own 2"][-1].at_s  # it was not the last in their line


def test_who_is_never_drafted_for_keeps_pace_with_who_never_waits(monkeypatch):
    """The twin's one slot is taken, so that each draft is given up, while a sequence with penalties, which has none, goes on and on."""
    monkeypatch.setattr(worth, "TURN_PRICE", -1.0)  # drafts never rest
    unit, clock = make_unit(twin_is_full=True), FakeClock()
    device, (plain,) = FakeDevice(LAYOUTS, clock, order=(1, 0)), ask()  # policies look when the other lane's step has ended, too
    hogs = [Request(id="hog", model=TWIN, prompt=(7,), sampling=Sampling(max_tokens=39), arrival_s=0.0)]
    other = Request(id="other", model=TARGET, prompt=(9, 9), sampling=Sampling(max_tokens=30, presence_penalty=0.1), arrival_s=0.0)
    for request in (*hogs, other, plain):
        unit.submit(request)
    made = Counter()
    while made["other"] < 20:
        made.update(output.request_id for output in turn(unit, BY_NAME["mux"], device, clock))
    assert made["0"] > 8


def test_tokens_that_the_draft_model_does_not_know_are_not_put_to_it():
    steps = answer(make_unit(vocab=2), ask())
    assert not steps[TWIN] and not any(step.drafts for step in steps[TARGET])


def test_drafts_are_drawn_as_the_answer_is():
    unit = make_unit()
    seen = []
    submit = unit.submit
    unit.submit = lambda request: (seen.append(request), submit(request))[1]
    unit._drafts._requests = unit
    answer(unit, ask(temperature=0.7, seed=5, top_k=3))
    drafts = [request for request in seen if request.model == TWIN]
    assert drafts and {(each.sampling.temperature, each.sampling.seed, each.sampling.top_k) for each in drafts} == {(0.7, 5, 3)}


@pytest.mark.parametrize("how", ["sleeps", "fails", "is removed"])
def test_answers_go_on_when_the_draft_model_is_gone(how):
    unit, clock = make_unit(), FakeClock()
    device = FakeDevice(LAYOUTS, clock)
    policy = BY_NAME["mux"]
    (request,) = ask()
    unit.submit(request)
    outputs = []
    for count in range(400):
        if count == 9:
            assert unit.drafting
            outputs += unit.end_all(TWIN, Finish.ABORT, now_s=clock.now_s())
            if how == "fails":
                unit.turn_to(TWIN, Status.FAILED)
            elif how == "sleeps":
                unit.turn_to(TWIN, Status.ASLEEP)
        if how == "is removed" and count > 9 and TWIN in unit._states and not unit.busy(TWIN):
            unit.remove(TWIN)
        if unit.idle:
            break
        outputs += turn(unit, policy, device, clock)
    check(request, outputs, cancelled=False)
