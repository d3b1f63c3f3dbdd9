"""Requests are refused by facts alone, and once."""

from dataclasses import replace

import pytest

from muxjax.engine.model.config import ModelConfig
from muxjax.engine.stats import Status
from muxjax.engine.unit import Unit
from muxjax.errors import RequestError
from muxjax.types import Finish, Output, Request, Sampling
from tests.engine.test_unit import LARGEST, LAYOUTS, MAX_TOKENS, make_unit


def request(name: str = "r", *, model: str = "a", prompt: int = 2, max_tokens: int = 2) -> Request:
    return Request(id=name, model=model, prompt=(1,) * prompt, sampling=Sampling(max_tokens=max_tokens), arrival_s=3.0)


@pytest.mark.parametrize(
    ("status", "code"), [(Status.DRAINING, "model_loading"), (Status.ASLEEP, "model_loading"), (Status.FAILED, "model_failed")]
)
def test_a_model_that_is_not_ready_takes_no_requests(status, code):
    unit = make_unit(total_blocks=LARGEST)
    unit.turn_to("a", status)
    with pytest.raises(RequestError) as refusal:
        unit.checker.check(request())
    assert (refusal.value.status, refusal.value.code) == (503, code)
    unit.checker.check(request(model="b"))


def test_a_checker_is_a_value_that_later_changes_do_not_reach():
    unit = make_unit(total_blocks=LARGEST)
    before = unit.checker
    unit.turn_to("a", Status.ASLEEP)
    before.check(request())
    with pytest.raises(RequestError, match="asleep"):
        unit.checker.check(request())


def test_what_has_passed_the_checker_is_taken():
    unit = make_unit(total_blocks=LARGEST)
    for model in LAYOUTS:
        longest = request(model, model=model, prompt=MAX_TOKENS - 1, max_tokens=1)
        unit.checker.check(longest)
        assert unit.submit(longest) == []
    assert set(unit.unfinished) == set(LAYOUTS)


@pytest.mark.parametrize("tokens", [(5,), (0, 4, -1), (2**31, 1), (2**70,), (-(2**70),)])
def test_a_prompt_has_tokens_of_its_model_alone(tokens):
    unit = Unit([ModelConfig(name="a", layout=LAYOUTS["a"], slots=2, max_tokens=8, vocab=5)], total_blocks=LARGEST, token_budget=8)
    wrong = Request(id="r", model="a", prompt=tokens, sampling=Sampling(max_tokens=2), arrival_s=3.0)
    with pytest.raises(RequestError, match=f"Token ({'|'.join(map(str, tokens))}) is out of .* from 0 to 4") as refusal:
        unit.checker.check(wrong)
    assert (refusal.value.status, refusal.value.param) == (400, "prompt")
    unit.checker.check(replace(wrong, prompt=(0, 4)))
    assert unit.submit(wrong) == [Output("r", None, Finish.ERROR, 3.0)], "one that nobody checked ends alone"
    assert unit.idle


def change_nothing(unit) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "is_taken"),
    [
        (change_nothing, True),
        (lambda unit: unit.turn_to("a", Status.DRAINING), True),
        (lambda unit: unit.turn_to("a", Status.FAILED), False),
        (lambda unit: unit.turn_to("a", Status.ASLEEP), False),
        (lambda unit: unit.remove("a"), False),
        (lambda unit: unit.resize(1), False),
        (lambda unit: unit.submit(request()), False),
    ],
)
def test_a_request_whose_facts_changed_after_its_check_ends_in_an_output(change, is_taken):
    unit = make_unit(total_blocks=LARGEST)
    unit.checker.check(request())
    change(unit)
    assert unit.submit(request()) == ([] if is_taken else [Output("r", None, Finish.FAILED, 3.0)])
