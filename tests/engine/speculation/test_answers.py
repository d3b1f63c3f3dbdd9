"""Drafts, right or wrong, change no answer, on a device that looks at every block it reads."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.engine.executor import Step
from muxjax.engine.model.state import ModelState
from muxjax.engine.speculation.drafts import Drafts
from muxjax.engine.speculation.worth import REST_STEPS, Worth
from muxjax.engine.stats import ModelStats
from muxjax.engine.unit import Unit
from muxjax.scheduler.policies import BY_NAME
from muxjax.types import Finish, Output, Request, Sampling
from tests.engine.speculation.kit import LARGEST, MOST_DRAFTS, MOST_ROWS, WIDE, speculating_unit
from tests.engine.test_unit import LANES, expected_tokens, requests, run
from tests.fake_device import FakeClock, FakeDevice


@settings(max_examples=150)
@given(
    todo=st.lists(requests(), min_size=1, max_size=10, unique_by=lambda request: request.id),
    policy=st.sampled_from(sorted(BY_NAME)),
    spare_blocks=st.integers(0, 20),
    look_ahead=st.integers(1, 3),
    token_budget=st.integers(2, 40),
    eager=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    lanes=LANES,
    hits=st.lists(st.booleans(), min_size=1, max_size=9),
    data=st.data(),
)
def test_every_request_gets_its_tokens_whatever_is_drafted(todo, policy, spare_blocks, look_ahead, token_budget, eager, lanes, hits, data):
    victims = data.draw(st.lists(st.sampled_from(todo), max_size=3))
    cancels = {data.draw(st.integers(0, 60)): victim.id for victim in victims}
    unit = speculating_unit(hits, total_blocks=LARGEST + spare_blocks, look_ahead=look_ahead, token_budget=token_budget, lanes=lanes)
    clock = FakeClock()
    outputs = run(unit, BY_NAME[policy], FakeDevice(WIDE, clock, eager=eager), clock, todo, cancels)
    for request in todo:
        check(request, outputs[request.id], cancelled=request.id in cancels.values())
    stats = unit.stats()
    assert stats.free_blocks == stats.total_blocks and not any(model.held_blocks for model in stats.models)
    assert all(model.drafts <= model.draft_tokens and model.accepted_tokens <= model.draft_tokens for model in stats.models)


def check(request: Request, outputs: list[Output], *, cancelled: bool) -> None:
    assert [output.finish is not None for output in outputs] == [False] * (len(outputs) - 1) + [True]
    tokens = [output.token for output in outputs if output.token is not None]
    if outputs[-1].finish is Finish.ABORT:
        assert cancelled and tokens == expected_tokens(request)[: len(tokens)]
    else:
        assert tokens == expected_tokens(request)


def ask(count: int = 1, *, tokens: int = 30, **sampling) -> list[Request]:
    return [
        Request(id=str(i), model="a", prompt=(i, 2, 3), sampling=Sampling(max_tokens=tokens, **sampling), arrival_s=0.0)
        for i in range(count)
    ]


class Recorder(FakeDevice):
    """Remembers its steps."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.steps: list[Step] = []

    def launch(self, step: Step) -> None:
        self.steps.append(step)
        super().launch(step)


def answer(unit: Unit, todo: list[Request]) -> tuple[ModelStats, list[Step]]:
    """Counts of the model, and all steps, once every answer has been looked at."""
    clock = FakeClock()
    device = Recorder(WIDE, clock)
    outputs = run(unit, BY_NAME["adbs"], device, clock, todo, {})
    for request in todo:
        check(request, outputs[request.id], cancelled=False)
    return unit.stats().models[0], device.steps


def test_right_drafts_save_steps_and_are_counted():
    stats, _ = answer(speculating_unit([True], total_blocks=4 * LARGEST), ask())
    assert stats.accepted_tokens == stats.draft_tokens and stats.decode_tokens == 29
    assert stats.decode_steps == 29 - stats.accepted_tokens < 10
    assert stats.drafts < stats.decode_steps  # the last token of a column is followed by none


def test_one_of_three_wrong_is_noticed_and_costs_what_follows_it_alone():
    stats, _ = answer(speculating_unit([True, True, False], total_blocks=4 * LARGEST), ask())
    assert 0 < stats.accepted_tokens < stats.draft_tokens
    assert stats.decode_steps == 29 - stats.accepted_tokens


def test_an_answer_ends_within_drafts_with_its_stop_token_and_nothing_behind_it():
    (request,) = ask()
    stop = expected_tokens(request)[11]
    assert stop not in expected_tokens(request)[:11]
    (ending,) = ask(stop_token_ids=frozenset({stop}))
    stats, _ = answer(speculating_unit([True], total_blocks=4 * LARGEST), [ending])
    assert stats.decode_tokens == 11


def test_wrong_drafts_are_given_up_and_tried_again():
    stats, steps = answer(speculating_unit([False], total_blocks=9 * LARGEST), ask(40, tokens=37))
    drafted = [step.drafts is not None for step in steps if step.decodes]
    assert stats.accepted_tokens == 0
    first = drafted.index(True)
    rests = drafted.index(False, first + 2)  # now and then all rows are at the end of their columns
    assert not any(drafted[rests + 4 : rests + REST_STEPS]) and any(drafted[rests + REST_STEPS :])


def test_rows_and_drafts_together_keep_to_their_limit_and_a_crowd_has_none():
    _, steps = answer(speculating_unit([True], total_blocks=9 * LARGEST, slots=6), ask(6))
    assert max(step.one_token_rows for step in steps) <= MOST_ROWS
    assert max(len(step.drafts) for step in steps if step.drafts) > MOST_DRAFTS
    _, steps = answer(speculating_unit([True], total_blocks=9 * LARGEST, slots=6, most_rows=11), ask(6))
    assert not any(step.drafts for step in steps if step.decodes == 6 and step.id > 8)
    assert any(step.drafts for step in steps)


def test_each_token_behind_a_draft_has_its_log_probabilities():
    (told,) = ask(logprobs=1)
    unit, clock = speculating_unit([True, True, False], total_blocks=4 * LARGEST), FakeClock()
    outputs = run(unit, BY_NAME["adbs"], FakeDevice(WIDE, clock), clock, [told], {})["0"]
    check(told, outputs, cancelled=False)
    assert [output.logprobs and output.logprobs.logprob for output in outputs] == [-token / 8 for token in expected_tokens(told)]
    assert unit.stats().models[0].accepted_tokens > 9


def test_requests_with_penalties_have_no_drafts_and_the_others_beside_them_do():
    plain, penalized = (
        ask()[0],
        Request(id="penalized", model="a", prompt=(9, 9), sampling=Sampling(max_tokens=30, presence_penalty=1.0), arrival_s=0.0),
    )
    _, steps = answer(speculating_unit([True], total_blocks=4 * LARGEST), [plain, penalized])
    drafted = [step for step in steps if step.drafts is not None and step.decodes == 2]
    assert drafted
    for step in drafted:
        assert step.drafts and step.controls and step.controls.penalties is not None
        assert not step.controls.penalties[step.drafts.rows, 0].any() and step.controls.penalties[:, 0].any()


def test_tokens_that_tenants_owe_to_drafts_are_service_like_any_other():
    def served(unit: Unit) -> dict[str, float]:
        todo = [replace(request, tenant=tenant) for request, tenant in zip(ask(4), ("x", "y", "x", "x"), strict=True)]
        answer(unit, todo)
        return {name: line.served for name, line in unit._states["a"].stages.waiting._by_name.items()}

    drafted = speculating_unit([True, True, False], total_blocks=9 * LARGEST)
    assert served(drafted) == served(speculating_unit([], total_blocks=9 * LARGEST, most_drafts=0))
    assert drafted.stats().models[0].accepted_tokens > 20


def test_nothing_is_launched_ahead_while_it_speculates_and_as_always_while_it_does_not(monkeypatch):
    def most_in_flight(unit: Unit) -> int:
        most, launch = [0], ModelState.launch

        def launched(state, *args):
            step = launch(state, *args)
            most[0] = max(most[0], state.in_flight)
            return step

        with monkeypatch.context() as patch:
            patch.setattr(ModelState, "launch", launched)
            answer(unit, ask(2))
        return most[0]

    assert most_in_flight(speculating_unit([True], total_blocks=4 * LARGEST)) == 1
    monkeypatch.setattr(Worth, "speculates", lambda worth, most_rows: False)
    assert most_in_flight(speculating_unit([True], total_blocks=4 * LARGEST)) == 2


@pytest.mark.parametrize("wrong", ["the first is always right", "all are"])
def test_a_wrong_rule_would_be_noticed(wrong, monkeypatch):
    right = Drafts.right

    def mutated(drafts: Drafts, tokens):
        return right(drafts, tokens) | (drafts.places == 1) | (wrong == "all are")

    monkeypatch.setattr(Drafts, "right", mutated)
    with pytest.raises(AssertionError):
        answer(speculating_unit([True, False, True], total_blocks=4 * LARGEST), ask())
