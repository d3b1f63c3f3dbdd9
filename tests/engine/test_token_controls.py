"""Logits processors of requests, through a real unit: each gets what the dense model alone would give it."""

from collections.abc import Mapping
from dataclasses import replace

import jax
import numpy as np
import pytest

from muxjax.engine.executor import SAMPLED
from muxjax.engine.grammar import Grammars
from muxjax.errors import RequestError
from muxjax.types import Finish, Grammar, GrammarKind, Request, Sampling
from tests.device.test_step import SPEC
from tests.engine.controls import EOS, SLOTS, ControlledModel, text_of, tokenizer

REGEX = Grammar(kind=GrammarKind.REGEX, text="[a-f]{3}-[0-9]+(X|YZ)")
PLAIN = Sampling(temperature=0.0, max_tokens=14)
CONTROLS = {
    "plain": {},
    "presence": {"presence_penalty": 1.5},
    "frequency": {"frequency_penalty": 2.0, "logit_bias": ((3, 30.0), (4, 28.0))},
    "negative": {"frequency_penalty": -2.0, "presence_penalty": -2.0, "logit_bias": ((3, 14.0),)},
    "repetition": {"repetition_penalty": 1.4},
    "rewarded": {"repetition_penalty": 0.6},
    "biased": {"logit_bias": ((3, 20.0), (9, -100.0), (17, 18.5))},
    "allowed": {"allowed_token_ids": frozenset({1, 5, 33, 40, 62})},
    "late": {"min_tokens": 6, "stop_token_ids": frozenset(range(48))},
    "grammar": {"grammar": REGEX, "stop_token_ids": frozenset({EOS})},
    "banned": {"bad_words": (*((token,) for token in range(20)), *((token % 5 + 30, token) for token in range(30, 64)))},
    "all": {
        "grammar": Grammar(kind=GrammarKind.REGEX, text="[a-zA-Z]+"),
        "presence_penalty": 0.5,
        "repetition_penalty": 1.2,
        "logit_bias": ((3, 1.0),),
        "logprobs": 3,
    },
}


def request(name: str, *, prompt: tuple[int, ...] | None = None, **changes) -> Request:
    """Prompts of 5 to 23 tokens: in one, two or three chunks of a budget of 16 that two share."""
    number = sum(map(ord, name))
    prompt = prompt or tuple((number * i + 7 * i * i) % 63 for i in range(5 + number % 19))
    return Request(id=name, model="m", prompt=prompt, sampling=replace(PLAIN, **changes), arrival_s=0.0)


@pytest.fixture(scope="module")
def model():
    return ControlledModel()


@pytest.fixture(scope="module")
def requests(model):
    """One of each kind, and bad words made of what the request would have said without."""
    first = [request(name, **controls) for name, controls in CONTROLS.items()]
    said = model.expected(request("words"))
    return [*first, request("words", bad_words=((said[0],), tuple(said[3:5]), (*first[0].prompt, 1)))]


@pytest.fixture(scope="module")
def expected(model, requests):
    return {each.id: model.expected(each) for each in requests}


def tokens(outputs) -> dict[str, list[int]]:
    return {name: [output.token for output in each] for name, each in outputs.items()}


@pytest.mark.parametrize("look_ahead", [1, 2, 3])
def test_every_control_works_whatever_else_is_in_the_batch(model, requests, expected, look_ahead):
    assert tokens(model.run(requests, look_ahead=look_ahead)[0]) == expected


def test_every_control_changes_what_is_said(model, requests, expected):
    """Of each request the first; else the test above would notice nothing."""
    for each in requests[1:]:
        name = next(iter(CONTROLS.get(each.id, {"bad_words": ()})))
        without = replace(each, sampling=replace(each.sampling, **{name: getattr(PLAIN, name)}))
        assert model.expected(without) != expected[each.id], each.id


def test_controls_outlive_preemption(model):
    """Four short prompts are let in where one long answer has room."""
    more = {"max_tokens": 40, "prompt_logprobs": 2}
    requests = [request(name, prompt=(i, 2, 3, 50, 9), **(controls | more)) for i, (name, controls) in enumerate(CONTROLS.items())]
    outputs, preemptions = model.run(requests, blocks=model.layout.blocks(45) + 8)
    assert preemptions > 0 and tokens(outputs) == {each.id: model.expected(each) for each in requests}
    for each in requests:
        first, *others = outputs[each.id]
        assert len(first.prompt_logprobs) == len(each.prompt) - 1 and not any(other.prompt_logprobs for other in others)


LIMIT = 2e-3
"""Of two runs' log-probabilities. The test's model has weights four times as large as trained ones, so a ten-thousandth more of any kind of
weight moves them by up to 7e-3, and the order of a sum, which is another on two devices, by 1.1e-4 under JAX 0.11 and 6.8e-4 under 0.12."""


def test_two_devices_give_the_same(model, requests):
    requests = [replace(each, sampling=replace(each.sampling, logprobs=2, prompt_logprobs=2)) for each in requests]
    alone, pair = model.run(requests)[0], ControlledModel(tp=2)
    assert apart(alone, pair.run(requests)[0]) < LIMIT

    down = pair.model.params["layers"]["down"]
    pair.model.params["layers"]["down"] = jax.device_put(down.at[:, down.shape[1] // 2 :].multiply(1.001), down.sharding)
    assert apart(alone, pair.run(requests)[0]) > 4 * LIMIT, "a thousandth more of one device's part of a sum"


def apart(one, two) -> float:
    """Largest difference of two runs' scores; infinite where their tokens are not the same."""
    if tokens(one) != tokens(two):
        return np.inf
    return max(np.abs(np.subtract(scores(outputs), scores(two[name]))).max() for name, outputs in one.items())


def scores(outputs) -> list[float]:
    """All there are."""
    found = [*(outputs[0].prompt_logprobs or ()), *(output.logprobs for output in outputs)]
    return [number for each in found for number in (each.logprob, *(logprob for _, logprob in each.top))]


def test_random_tokens_depend_on_seed_and_controls_alone(model, requests):
    controls = [{"temperature": 1.0, "seed": i, "top_p": 0.9 if i % 2 else 1.0} for i in range(len(requests))]
    requests = [replace(each, sampling=replace(each.sampling, **changes)) for each, changes in zip(requests, controls, strict=True)]
    together = tokens(model.run(requests)[0])
    assert together == {each.id: tokens(model.run([each], look_ahead=1)[0])[each.id] for each in requests}
    reseeded = [replace(each, sampling=replace(each.sampling, seed=99)) for each in requests]
    assert tokens(model.run(reseeded)[0]) != together
    assert not set(together["allowed"]) - CONTROLS["allowed"]["allowed_token_ids"]


def test_a_finished_grammar_ends_the_answer(model, requests):
    (outputs,) = model.run([each for each in requests if each.id == "grammar"])[0].values()
    assert outputs[-1].finish is (Finish.STOP if outputs[-1].token == EOS else Finish.LENGTH)
    short = request("grammar", grammar=Grammar(kind=GrammarKind.REGEX, text="ab(c|de)"), stop_token_ids=frozenset({EOS}), min_tokens=14)
    (outputs,) = model.run([short])[0].values()
    assert text_of(output.token for output in outputs) in ("abc", "abde")
    assert outputs[-1].token == EOS and outputs[-1].finish is Finish.STOP


def test_only_tied_sequences_wait_for_their_tokens(model, requests):
    """A step launched ahead holds everybody else; alone, a tied sequence has one step in flight, and its inputs are on the device."""
    tied = {"grammar", "banned", "all", "words"}
    for each in requests:
        model.run([each])
        decodes = [step for step in model.steps if step.decodes]
        assert all((step.tokens[: step.decodes] == SAMPLED).all() for step in decodes)
        ahead = [step for step in model.steps if step.controls is None]
        assert bool(ahead) == (each.id == "plain")
        assert most_in_flight(model, each) == (1 if each.id in tied else 2), each.id


def test_tied_sequences_that_come_apart_decode_together(model):
    """One is prefilled while the other's step is in flight; two groups would take turns for ever."""
    first, second = (request(name, bad_words=((62, 61),)) for name in ("first", "second"))
    assert most_in_flight(model, first, late={4: second}) == 2  # so they do come apart
    decodes = [step.decodes for step in model.steps if step.decodes]
    assert decodes == [1] * 3 + [2] * (len(decodes) - 6) + [1] * 3


def most_in_flight(model: ControlledModel, *requests: Request, late: Mapping[int, Request] | None = None) -> int:
    """Steps of the requests, at once."""
    flying, most = 0, 0
    launch, collect = model.launch, model.collect

    class Watched:
        def launch(self, step):
            nonlocal flying, most
            flying += 1
            most = max(most, flying)
            launch(step)

        def collect(self, *, wait):
            nonlocal flying
            done = collect(wait=wait)
            flying -= len(done)
            return done

    watched = Watched()
    model.launch, model.collect = watched.launch, watched.collect
    try:
        model.run(requests, late=late)
    finally:
        del model.launch, model.collect
    return most


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("look_ahead", [1, 3])
def test_a_row_whose_rules_leave_no_token_ends_and_costs_its_neighbours_none(model, requests, expected, temperature, look_ahead):
    rules = {
        "temperature": temperature,
        "bad_words": ((4, 4),),
        "allowed_token_ids": frozenset({4}),
        "presence_penalty": 1.0,
        "logprobs": 1,
    }
    outputs, _ = model.run([request("dry", **rules), *requests[:3]], look_ahead=look_ahead)
    *said, last = outputs.pop("dry")
    assert [output.token for output in said] == [4] and (last.token, last.logprobs, last.finish) == (None, None, Finish.STOP)
    assert tokens(outputs) == {each.id: expected[each.id] for each in requests[:3]}


AB = Grammar(kind=GrammarKind.REGEX, text="ab(c|de)")


@pytest.mark.parametrize(
    ("rules", "text", "finish"),
    [
        ({"allowed_token_ids": frozenset(range(5))}, "abc", Finish.STOP),  # all that the form needs, but for the end
        ({"allowed_token_ids": frozenset(range(3)), "bad_words": ((1, 2),)}, "ab", Finish.LENGTH),  # the form cannot be completed
    ],
)
def test_an_answer_whose_rules_leave_no_token_stops_if_its_form_is_complete_and_else_was_cut(model, rules, text, finish):
    wanted = request("form", grammar=AB, stop_token_ids=frozenset({EOS}), logit_bias=((2, 50.0),), prompt_logprobs=1, **rules)
    (outputs,) = model.run([wanted])[0].values()
    assert text_of(output.token for output in outputs[:-1]) == text and (outputs[-1].token, outputs[-1].finish) == (None, finish)


def test_a_complete_form_ends_with_the_models_end_whether_or_not_the_request_stops_there(model):
    (outputs,) = model.run([request("form", grammar=AB)])[0].values()
    assert text_of(output.token for output in outputs) in ("abc", "abde")
    assert outputs[-1].token == EOS and outputs[-1].finish is Finish.STOP


def test_a_complete_form_ends_the_answer_of_a_model_without_an_end(model):
    endless = Grammars(tokenizer(), vocab=SPEC.vocab, eos_ids=())
    (outputs,) = model.run([request("form", grammar=AB)], compiler=endless)[0].values()
    assert text_of(output.token for output in outputs[:-1]) in ("abc", "abde")
    assert outputs[-1].token is None and outputs[-1].finish is Finish.STOP


def test_grammars_hold_where_the_tokenizer_has_more_tokens_than_the_model(model, requests, expected):
    wide = Grammars(tokenizer("[PAD]", "[MORE]"), vocab=SPEC.vocab, eos_ids=(EOS,))
    assert tokens(model.run(requests, compiler=wide)[0]) == expected


def test_penalties_beyond_all_bounds_leave_every_logit_a_number(model, requests, expected):
    odd = [request(f"odd{i}", repetition_penalty=penalty) for i, penalty in enumerate((1e300, 1e-300))]
    outputs = tokens(model.run([*odd, requests[0]])[0])
    assert outputs["plain"] == expected["plain"]
    assert len(set(outputs["odd0"])) == len(outputs["odd0"]), "what cannot be said twice"
    assert len(set(outputs["odd1"]) - set(odd[1].prompt)) <= 1, "what was said is said again"


def test_more_edits_than_one_program_makes_are_all_made(model):
    biases = tuple((token, -50.0) for token in range(63))
    many = [request(f"many{i}", logit_bias=biases * 10, max_tokens=4) for i in range(SLOTS)]
    assert {tuple(each) for each in tokens(model.run(many)[0]).values()} == {(EOS,) * 4}


def test_many_bad_words_are_one_mask(model):
    many = request("mask", bad_words=tuple((token,) for token in range(50)), max_tokens=4)
    assert min(tokens(model.run([many])[0])["mask"]) >= 50
    assert all(not len(step.controls.edits) and len(step.controls.masks) == 1 for step in model.steps[-4:])


def test_a_row_without_controls_runs_no_program_behind_its_step(model):
    model.run([request("plain")])
    assert all(step.controls is None for step in model.steps)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("logit_bias", ((64, 1.0),)),
        ("allowed_token_ids", frozenset({-1})),
        ("bad_words", ((3, 64),)),
        ("stop_token_ids", frozenset({1000})),
        ("grammar", Grammar(kind=GrammarKind.REGEX, text="(a")),
    ],
)
def test_controls_that_cannot_work_are_refused(model, field, value):
    with pytest.raises(RequestError) as refusal:
        model.run([request("wrong", **{field: value})])
    assert refusal.value.param == ("structured_outputs" if field == "grammar" else field) and refusal.value.status == 400
