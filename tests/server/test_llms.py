import subprocess
import sys

import pytest

import muxjax
from muxjax.errors import RequestError
from muxjax.server.llms import LLMs
from muxjax.server.service import Service
from muxjax.types import Finish
from tests.fakes import FakeEngine, fake_logprobs


@pytest.fixture
def engine():
    return FakeEngine(["org/a", "plain"])


@pytest.fixture
def llms(engine, catalog):
    with LLMs.over(Service(engine, catalog)) as models:
        yield models


def test_prompts_of_every_form_are_answered_in_order(llms, tokenizer):
    answers = llms.generate("a", ["the cat", [72, 73], [{"role": "user", "content": "hello"}]], max_tokens=2)
    assert [answer.prompt_tokens for answer in answers][:2] == [len(tokenizer.encode("the cat", special=True)), 2]
    assert answers[1].tokens == (72, 73)
    assert answers[1].text == tokenizer.decode([72, 73])
    assert [answer.finish for answer in answers] == [Finish.LENGTH] * 3


def test_a_single_prompt_is_a_list_of_one(llms):
    assert len(llms.generate("a", "the cat")) == len(llms.generate("a", [5, 6])) == 1
    assert llms.generate("a", []) == []


def test_pairs_go_to_their_models_at_once(catalog):
    engine = FakeEngine(["org/a", "plain"], turn_s=0.02)
    with LLMs.over(Service(engine, catalog)) as llms:
        answers = llms.generate_pairs([("a", [72]), ("plain", [73]), ("a", [74])], max_tokens=3, n=2)
    assert [answer.model for answer in answers] == ["org/a"] * 2 + ["plain"] * 2 + ["org/a"] * 2
    assert [answer.tokens[0] for answer in answers] == [72, 72, 73, 73, 74, 74]


def test_a_chat_is_one_answer_that_may_stop(llms):
    answer = llms.chat("a", [{"role": "user", "content": "hello"}], max_tokens=60, stop=": hel")
    assert (answer.finish, answer.stop_reason) == (Finish.STOP, ": hel")
    assert answer.text.endswith("user")


def test_logprobs_are_told_where_they_are_asked_for(llms):
    (answer,) = llms.generate("a", [72, 73], max_tokens=2, logprobs=1, prompt_logprobs=0)
    assert answer.logprobs == (fake_logprobs(72, 1), fake_logprobs(73, 1))
    assert answer.prompt_logprobs == (fake_logprobs(73, 0),)
    assert llms.generate("a", [72, 73], max_tokens=2)[0].logprobs == ()


def test_an_answer_may_have_a_form_and_call_tools(catalog, tokenizer):
    said = [*tokenizer.encode('{"a": 1}', special=False), 1]
    engine = FakeEngine(["org/a"], reply=lambda request, k: said[k], cached_tokens=3)
    clock = {"type": "function", "function": {"name": "clock"}}
    with LLMs.over(Service(engine, catalog)) as llms:
        (formed,) = llms.generate("a", "x", max_tokens=20, response_format={"type": "json_object"})
        called = llms.chat("a", [{"role": "user", "content": "x"}], tools=[clock], tool_choice=clock)
    assert (formed.text, formed.tool_calls, formed.cached_tokens) == ('{"a": 1}', (), 3)
    assert called.tool_calls == (("clock", '{"a": 1}'),)
    assert [request.sampling.grammar.kind for request in engine.submitted] == ["json_schema"] * 2


def test_an_echo_alone_has_no_tokens(llms):
    (answer,) = llms.generate("a", "the cat", max_tokens=0, echo=True)
    assert (answer.text, answer.tokens, answer.finish) == ("the cat", (), Finish.LENGTH)


def test_wrong_input_is_a_request_error(llms, engine):
    with pytest.raises(RequestError, match="does not exist"):
        llms.generate("b", "x")
    with pytest.raises(RequestError, match="temperature"):
        llms.generate("a", "x", temperature=9)
    assert engine.submitted == []


def test_one_refused_prompt_frees_the_others(catalog):
    engine = FakeEngine(["org/a"], most_tokens=50, turn_s=0.05)
    with LLMs.over(Service(engine, catalog)) as llms, pytest.raises(RequestError, match="there are 50"):
        llms.generate("a", [[5] * 10, [5] * 30], max_tokens=30)
    assert engine.live == 0


def test_after_closing_nothing_runs(engine, catalog):
    LLMs.over(Service(engine, catalog)).close()
    with pytest.raises(RequestError) as error:
        engine.submit(None)
    assert error.value.status == 503


def test_importing_muxjax_is_cheap_and_the_server_needs_no_jax():
    code = "import sys, muxjax; assert 'aiohttp' not in sys.modules; muxjax.LLMs; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert muxjax.__version__[0].isdigit()
