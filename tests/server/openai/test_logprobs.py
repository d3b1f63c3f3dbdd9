"""What clients are told of log-probabilities, through `openai` and in the arithmetic that lm-eval does on it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.server.openai.logprobs import TokenLogprobs, chat_logprobs, completion_logprobs, echo_logprobs, spelled
from muxjax.types import Logprobs
from tests.fakes import fake_logprobs
from tests.server.kit import BOS, EOS, VOCAB
from tests.server.speaking import Paced

HELLO = [{"role": "user", "content": "hello"}]
IMPOSSIBLE = 260


def test_a_completion_tells_its_tokens_in_parallel_lists(server, tokenizer):
    answer = server.client.completions.create(model="a", prompt=[72, 73], max_tokens=3, logprobs=2)
    told = answer.choices[0].logprobs
    assert told.tokens == [tokenizer.decode([token]) for token in (72, 73, 72)]
    assert told.token_logprobs == [-9.0, -73 / 8, -9.0]
    assert told.text_offset == [0, 1, 2]
    assert told.top_logprobs[0] == {"<s>": 0.0, "</s>": -0.125, tokenizer.decode([72]): -9.0}


def test_without_the_wish_nothing_is_told(server):
    answer = server.client.completions.create(model="a", prompt=[72], max_tokens=2)
    assert answer.choices[0].logprobs is None
    assert server.engine.submitted[0].sampling.logprobs is None


def test_impossible_is_a_number_that_json_knows(serve):
    with serve(reply=lambda request, k: IMPOSSIBLE) as server:
        answer = server.client.completions.create(model="a", prompt=[72], max_tokens=1, logprobs=0)
        assert answer.choices[0].logprobs.token_logprobs == [-9999.0]


@pytest.mark.parametrize(("prompt", "greedy"), [([BOS, 0, 0, 0], True), ([BOS, 0, 0, 5], False)])
def test_lm_eval_scores_a_continuation(serve, prompt, greedy):
    """As its `parse_logprobs` does: context of two tokens, one generated token that is not counted, here the EOS."""
    with serve(reply=lambda request, k: EOS) as server:
        answer = server.client.completions.create(model="a", prompt=[prompt], max_tokens=1, logprobs=1, echo=True, temperature=0, seed=1234)
    told = answer.choices[0].logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == len(told.text_offset) == len(prompt) + 1
    assert (told.token_logprobs[0], told.top_logprobs[0]) == (None, None)
    scores, tops = told.token_logprobs[2:-1], told.top_logprobs[2:-1]
    assert sum(scores) == sum(-token / 8 for token in prompt[2:])
    assert all(score == max(top.values()) for score, top in zip(scores, tops, strict=True)) is greedy
    assert told.tokens[-1] == "</s>"


def test_an_echo_shows_the_prompt_before_the_answer(server, tokenizer):
    answer = server.client.completions.create(model="a", prompt="the cat", max_tokens=2, echo=True, logprobs=0)
    told, shown = answer.choices[0].logprobs, answer.choices[0].text
    prompt = tokenizer.encode("the cat", special=True)
    assert shown == "the cat" + tokenizer.decode(prompt[:2])
    assert told.text_offset[:2] == [0, 0]
    for token, offset in list(zip(told.tokens, told.text_offset, strict=True))[1 : len(prompt)]:
        assert shown[offset:].startswith(token)


def test_an_echo_alone_generates_nothing(server):
    answer = server.client.completions.create(model="a", prompt=["the cat", [72, 73]], max_tokens=0, echo=True, logprobs=1)
    assert [choice.text for choice in answer.choices] == ["the cat", server.service.catalog.find("a").tokenizer.decode([72, 73])]
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    assert len(answer.choices[1].logprobs.tokens) == 2
    assert answer.usage.completion_tokens == 0


def test_a_stream_tells_each_token_once(server):
    fields = {"model": "a", "prompt": "the cat sat", "max_tokens": 9, "logprobs": 1, "echo": True}
    events = list(server.client.completions.create(**fields, stream=True))
    whole = server.client.completions.create(**fields).choices[0]
    assert "".join(event.choices[0].text for event in events) == whole.text
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert [entry for event in events for entry in getattr(event.choices[0].logprobs, name)] == getattr(whole.logprobs, name)


def test_tokens_whose_text_is_held_back_are_told_with_the_next_but_the_first(serve, tokenizer):
    smile = tokenizer.encode("😀", special=False)
    paced = Paced(lambda request, k: smile[k % len(smile)], tokens=4)
    with serve(reply=paced) as server:
        fields = {"model": "a", "messages": HELLO, "max_tokens": 8, "logprobs": True, "top_logprobs": 1, "stream": True}
        events = list(paced.reading(server.client.chat.completions.create(**fields)))
    entries = [entry for event in events[1:] for entry in event.choices[0].logprobs.content]
    assert len(smile) == 4
    assert len(entries) == 8
    assert bytes(byte for entry in entries for byte in entry.bytes).decode() == "😀😀"
    assert entries[0].token == "bytes:\\xf0"
    assert [event.choices[0].delta.content for event in events[1:4]] == [None, "😀", "😀"]


def test_a_chat_tells_an_object_for_each_token(server):
    answer = server.client.chat.completions.create(model="a", messages=HELLO, max_tokens=2, logprobs=True, top_logprobs=2)
    first = answer.choices[0].logprobs.content[0]
    assert first.bytes == list(first.token.encode())
    assert first.logprob == -server.engine.submitted[0].prompt[0] / 8
    assert [(top.token, top.logprob) for top in first.top_logprobs] == [("<s>", 0.0), ("</s>", -0.125)]
    assert answer.choices[0].logprobs.refusal is None


def test_prompt_logprobs_are_by_token_id(server):
    fields = {"model": "a", "prompt": [5, 1, 200], "max_tokens": 1, "extra_body": {"prompt_logprobs": 2}}
    told = server.client.completions.create(**fields).choices[0].model_extra["prompt_logprobs"]
    assert told[0] is None
    assert told[1] == {
        "0": {"logprob": 0.0, "rank": 1, "decoded_token": "<s>"},
        "1": {"logprob": -0.125, "rank": 2, "decoded_token": "</s>"},
    }
    assert told[2]["200"]["rank"] is None
    chat = server.client.chat.completions.create(model="a", messages=HELLO, max_tokens=1, extra_body={"prompt_logprobs": 0})
    assert len(chat.model_extra["prompt_logprobs"]) == chat.usage.prompt_tokens


def test_the_token_itself_is_always_among_the_likely_ones(tokenizer):
    (told,) = completion_logprobs(tokenizer, [TokenLogprobs(200, 0, fake_logprobs(200, 3))], 1)["top_logprobs"]
    assert told == {"<s>": 0.0, spelled(tokenizer, 200): -25.0}


def test_of_tokens_that_are_spelled_alike_the_likelier_one_counts(tokenizer):
    unknown = Logprobs(VOCAB + 5, -3.0, ((VOCAB + 5, -3.0),))
    assert completion_logprobs(tokenizer, [TokenLogprobs(VOCAB + 5, 0, unknown)], 1)["top_logprobs"] == [{f"token_id:{VOCAB + 5}": -3.0}]
    assert chat_logprobs(tokenizer, [TokenLogprobs(VOCAB + 5, 0, unknown)], 0)["content"][0]["bytes"] == []


@given(tokens=st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=20), special=st.booleans())
def test_offsets_of_an_echo_never_fall_and_end_within_the_text(tokenizer, tokens, special):
    shown = tokenizer.decode(tokens, special=special)
    told = echo_logprobs(tokenizer, tokens, [fake_logprobs(token, 0) for token in tokens[1:]], len(shown), special=special)
    offsets = [one.offset for one in told]
    assert offsets == sorted(offsets)
    assert 0 <= offsets[0] <= offsets[-1] <= len(shown)
    assert [one.token for one in told] == tokens
    assert [one.logprobs is None for one in told] == [True] + [False] * (len(tokens) - 1)


@given(content=st.text(st.characters(codec="utf-8"), min_size=1, max_size=12))
def test_offsets_point_at_each_tokens_text(tokenizer, content):
    tokens = tokenizer.encode(content, special=False)
    told = echo_logprobs(tokenizer, tokens, [fake_logprobs(token, 0) for token in tokens[1:]], len(content), special=False)
    for one in told:
        token = tokenizer.piece(one.token).decode(errors="ignore")
        if spelled(tokenizer, one.token) == token:
            assert content[one.offset :].startswith(token)


def test_minus_infinity_is_told_everywhere_as_a_number(tokenizer):
    impossible = fake_logprobs(IMPOSSIBLE, 0)
    told = [TokenLogprobs(IMPOSSIBLE, 0, impossible)]
    assert completion_logprobs(tokenizer, told, 0)["token_logprobs"] == [-9999.0]
    assert chat_logprobs(tokenizer, told, 0)["content"][0]["logprob"] == -9999.0
    assert impossible.logprob == -math.inf


@pytest.mark.parametrize("odd", [math.nan, -math.inf, -1e300])
def test_what_is_no_number_is_told_as_the_least(tokenizer, odd):
    told = [TokenLogprobs(3, 0, Logprobs(3, odd, ((4, odd),)))]
    assert completion_logprobs(tokenizer, told, 1)["token_logprobs"] == [-9999.0]
    (entry,) = chat_logprobs(tokenizer, told, 1)["content"]
    assert (entry["logprob"], entry["top_logprobs"][0]["logprob"]) == (-9999.0, -9999.0)
