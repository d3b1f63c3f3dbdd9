"""What a backend must do before it is measured, and how answers are held against others."""

import pytest

from muxjax.bench.backends.check import PROMPTS, TOKENS, Disagreement, Sample, disagreement, prompt, samples
from muxjax.bench.backends.running import serving
from muxjax.errors import ConfigError
from tests.bench.backends.kit import failing, fleet


def sampled(tmp_path, fault):
    with serving(failing(fault), fleet(), tmp_path, ready_s=30) as running:
        return samples(running.urls)


def test_each_model_is_asked_a_few_prompts(tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # which would not know this host
    found = sampled(tmp_path, "")
    assert found == [Sample(model="good", prompt=number, text=f"False good {sum(prompt(number))}") for number in range(PROMPTS)]


def test_a_server_without_a_tokenizer_has_no_words(tmp_path):
    assert {one.text for one in sampled(tmp_path, "textless")} == {""}


@pytest.mark.parametrize(
    "fault, said",
    [
        ("short", f"counts 8 and {TOKENS - 1} where 8 tokens in and {TOKENS} out were asked for"),
        ("refuses", "answers 400: .*no tokens, please"),
        ("formless", "answers in another form"),
    ],
)
def test_what_was_not_done_is_told(tmp_path, fault, said):
    with pytest.raises(ConfigError, match=said):
        sampled(tmp_path, fault)


def test_nobody_there_is_told():
    with pytest.raises(ConfigError, match=r"http://127\.0\.0\.1:9/v1/completions does not answer"):
        samples({"m": "http://127.0.0.1:9/v1"})


def of(**texts: str) -> list[Sample]:
    return [Sample(model=name[:-1], prompt=int(name[-1]), text=text) for name, text in texts.items()]


def test_answers_are_held_against_those_to_the_same_prompt():
    assert disagreement(of(a0="x", a1="y", b0="z"), of(a0="x", a1="other", c0="z")) == Disagreement(differ=1, compared=2)


def test_answers_without_words_are_not_held_against_any():
    assert disagreement(of(a0="", a1="y"), of(a0="x", a1="")) == Disagreement(differ=0, compared=0)


def test_prompts_are_of_tokens_that_any_model_has_and_differ():
    prompts = [tuple(prompt(number)) for number in range(PROMPTS)]
    assert len({one[:1] for one in prompts}) == PROMPTS and all(10 <= token < 90 for one in prompts for token in one)
