"""What a request asks of its tokens may be made ready before the request is handed in."""

import pytest

from muxjax.engine.model.config import ModelConfig
from muxjax.engine.unit import Unit
from muxjax.errors import RequestError
from muxjax.types import Grammar, GrammarKind, Request, Sampling
from tests.device.test_step import LAYOUT, SPEC
from tests.engine.controls import grammars


@pytest.fixture
def unit() -> Unit:
    sizes = {"slots": 2, "max_tokens": SPEC.max_len}
    config = ModelConfig(name="m", layout=LAYOUT, vocab=SPEC.vocab, grammars=grammars(), **sizes)
    return Unit([config], total_blocks=100, token_budget=8, max_rows=2, look_ahead=2)


def asking(pattern: str, model: str = "m") -> Request:
    grammar = Grammar(kind=GrammarKind.REGEX, text=pattern)
    return Request(id="r", model=model, prompt=(1,), sampling=Sampling(grammar=grammar), arrival_s=0.0)


def test_a_grammar_that_does_not_compile_is_refused_beforehand(unit):
    with pytest.raises(RequestError, match="does not compile") as beforehand:
        unit.checker.prepare(asking("(a"))
    with pytest.raises(RequestError) as later:
        unit.checker.check(asking("(a"))
    assert str(beforehand.value) == str(later.value)
    with pytest.raises(RequestError, match="does not exist"):
        unit.checker.prepare(asking("a", model="none"))


def test_what_is_prepared_is_not_yet_handed_in(unit):
    unit.checker.prepare(asking("ab*"))
    assert unit.idle
    unit.submit(asking("ab*"))
    assert not unit.idle
