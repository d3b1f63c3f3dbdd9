"""The engine's border, with whatever requests there are: each ends once, as it would have ended alone, and no model fails."""

import math
from collections.abc import Iterable

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from muxjax.engine.loop import turn
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.stats import Status
from muxjax.engine.unit import Unit
from muxjax.errors import RequestError
from muxjax.scheduler.policies import by_name
from muxjax.types import Finish, Grammar, GrammarKind, Output, Request, Sampling
from tests.engine.test_unit import LARGEST, LAYOUTS, MAX_TOKENS
from tests.fake_device import VOCAB, FakeClock, FakeDevice, continuation
from tests.fake_grammars import BREAKS_AT_MASK, BREAKS_AT_TOKEN, FakeGrammars

EOS = VOCAB - 1
SEEN = (BREAKS_AT_MASK, BREAKS_AT_TOKEN)
known = st.integers(0, VOCAB - 1)
any_token = known | st.sampled_from([-1, VOCAB, 2**31 - 1, 2**31, -(2**31) - 1, 2**63, 2**70])
odd_numbers = st.floats() | st.integers(-(2**70), 2**70)


def grammars():
    """The first place breaks nothing: it is looked at before the engine has the request, in the caller's thread."""
    tokens = st.lists(known, min_size=1, max_size=4).map(lambda tokens: ",".join(map(str, tokens)))
    places = st.tuples(tokens, st.lists(tokens | st.sampled_from(SEEN), max_size=5))
    return places.map(lambda drawn: Grammar(kind=GrammarKind.LARK, text=" ".join([drawn[0], *drawn[1]])))


def samplings(tokens: st.SearchStrategy[int]):
    """Arguments of a sampling, of which many are left out."""
    fields = {
        "temperature": st.floats(0, 2),
        "top_k": st.integers(0, 2**31 - 1),
        "top_p": st.floats(0.01, 1),
        "min_p": st.floats(0, 1),
        "seed": st.integers(-(2**63), 2**63 - 1),
        "min_tokens": st.integers(0, 8),
        "stop_token_ids": st.frozensets(tokens, max_size=3),
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.floats(-2, 2),
        "repetition_penalty": st.floats(1e-300, 1e300),
        "logit_bias": st.lists(st.tuples(tokens, st.floats(-100, 100)), max_size=3).map(tuple),
        "allowed_token_ids": st.frozensets(tokens, min_size=1, max_size=5),
        "bad_words": st.lists(st.lists(tokens, min_size=1, max_size=3).map(tuple), max_size=30).map(tuple),
        "grammar": grammars(),
        "logprobs": st.integers(0, 20),
        "prompt_logprobs": st.integers(0, 20),
    }
    return st.fixed_dictionaries({"max_tokens": st.integers(8, 12)}, optional=fields)


@st.composite
def requests(draw, name: str, odd: bool = False) -> Request | None:
    """A request, or None of one that cannot be made; an odd one has tokens and numbers that nobody has."""
    tokens = any_token if odd else known
    arguments = draw(samplings(tokens))
    if odd:
        numeric = sorted(name for name, value in arguments.items() if isinstance(value, int | float))
        arguments |= draw(st.dictionaries(st.sampled_from(numeric), odd_numbers, max_size=1))
    prompt = tuple(draw(st.lists(tokens, min_size=not odd, max_size=MAX_TOKENS - 12 if odd else 12)))
    try:
        return Request(id=name, model=draw(st.sampled_from("ab")), prompt=prompt, sampling=Sampling(**arguments), arrival_s=0.0)
    except (RequestError, TypeError):
        return None


def run(todo: Iterable[Request], *, look_ahead: int = 2, checked: bool = True) -> dict[str, list[Output]]:
    """All outputs of those that are not refused, by request."""
    configs = [
        ModelConfig(name=name, layout=LAYOUTS[name], slots=4, max_tokens=MAX_TOKENS, vocab=VOCAB, grammars=FakeGrammars((EOS,)))  # pyright: ignore[reportArgumentType]
        for name in "ab"
    ]
    unit, clock = Unit(configs, total_blocks=LARGEST + 20, token_budget=8, max_rows=4, look_ahead=look_ahead), FakeClock()
    device, outputs = FakeDevice({name: LAYOUTS[name] for name in "ab"}, clock, eager=(0, 2, 1)), {}
    for request in todo:
        try:
            if checked:
                unit.checker.check(request)
        except RequestError as error:
            assert error.status == 400
            continue
        outputs[request.id] = unit.submit(request)
    while not unit.idle:
        for output in turn(unit, by_name("adbs"), device, clock):
            outputs[output.request_id].append(output)
    stats = unit.stats()
    assert stats.free_blocks == stats.total_blocks and all(model.status is Status.READY for model in stats.models)
    return outputs


def essence(outputs: list[Output]) -> list[Output]:
    """All but times, and what was found in the cache, of the outputs."""
    return [output._replace(at_s=0.0, cached_tokens=0) for output in outputs]


def many(most: int, *, odd: int = 1):
    """Requests, of which so many are odd."""
    drawn = st.tuples(*(requests(str(i), odd=i < odd) for i in range(most)))
    return drawn.map(lambda drawn: [request for request in drawn if request is not None])


@settings(max_examples=50, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(many(6), st.integers(1, 3))
def test_whatever_is_asked_every_request_ends_once_and_as_it_ends_alone(todo, look_ahead):
    outputs = run(todo, look_ahead=look_ahead)
    for request in todo:
        if request.id not in outputs:
            continue
        said = outputs[request.id]
        assert [output.finish is not None for output in said] == [False] * (len(said) - 1) + [True]
        assert said[-1].finish in (Finish.STOP, Finish.LENGTH, Finish.ERROR)
        assert all(0 <= output.token < VOCAB for output in said if output.token is not None)
        assert essence(said) == essence(run([request])[request.id])
        check_rules(request, said)


def check_rules(request: Request, said: list[Output]) -> None:
    """No rule is broken by a token, and only what breaks ends in an error."""
    sampling, tokens = request.sampling, [output.token for output in said if output.token is not None]
    text = list(request.prompt)
    for count, token in enumerate(tokens):
        text.append(token)
        assert token not in sampling.stop_token_ids or count >= sampling.min_tokens or sampling.grammar is not None
        assert sampling.allowed_token_ids is None or token in sampling.allowed_token_ids
        assert not any(words and tuple(text[-len(words) :]) == words for words in sampling.bad_words)
    breaks = sampling.grammar is not None and any(word in sampling.grammar.text for word in SEEN)
    assert said[-1].finish is not Finish.ERROR or breaks


@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(many(4, odd=3))
def test_what_nobody_has_checked_ends_alone(todo):
    """Its neighbour asks for nothing, and gets what it would have had."""
    short = [request for request in todo if len(request.prompt) + request.sampling.max_tokens <= MAX_TOKENS]
    plain = Request(id="plain", model="a", prompt=(1, 2, 3), sampling=Sampling(max_tokens=9), arrival_s=0.0)
    outputs = run([*short, plain], checked=False)
    assert [output.token for output in outputs["plain"]] == continuation("a", plain.prompt, 9)
    assert all(sum(output.finish is not None for output in said) == 1 and said[-1].finish is not None for said in outputs.values())


def grammar(text: str) -> Sampling:
    return Sampling(max_tokens=9, grammar=Grammar(kind=GrammarKind.LARK, text=text))


def test_what_breaks_for_one_request_is_an_error_of_that_one_told_once_with_its_traceback(caplog):
    names = {"mask": "3 4 mask", "token": "3 4 token 5", "whole": "3 4 5"}
    todo = [Request(id=name, model="a", prompt=(1, 2), sampling=grammar(text), arrival_s=0.0) for name, text in names.items()]
    plain = Request(id="plain", model="a", prompt=(7,), sampling=Sampling(max_tokens=9), arrival_s=0.0)
    outputs = run([*todo, plain])
    ends = {name: ([output.token for output in said], said[-1].finish) for name, said in outputs.items()}
    assert ends == {
        "mask": ([3, 4, None], Finish.ERROR),
        "token": ([3, 4, None], Finish.ERROR),
        "whole": ([3, 4, 5, EOS], Finish.STOP),
        "plain": (continuation("a", (7,), 9), Finish.LENGTH),
    }
    assert caplog.text.count("Traceback") == 2 and "request mask" in caplog.text and "request token" in caplog.text


def test_numbers_that_no_device_can_hold_are_refused_by_name():
    for field, value in {"top_k": 2**31, "repetition_penalty": math.inf, "temperature": math.nan}.items():
        try:
            Sampling(**{field: value})
        except RequestError as error:
            assert error.param == field
        else:
            raise AssertionError(field)
