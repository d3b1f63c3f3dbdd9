import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.errors import RequestError
from muxjax.server.catalog import Catalog
from muxjax.server.openai.fields import Fields
from muxjax.server.openai.sampling import MOST_BAD_WORD_CHARACTERS, MOST_BIASES
from muxjax.server.openai.schema import MOST_STOP_CHARACTERS, parse_chat, parse_completion
from muxjax.server.sampling_defaults import SamplingDefaults
from muxjax.types import Grammar, GrammarKind
from tests.server.kit import BOS, EOS, STAMP, VOCAB, served, spec

USER = {"role": "user", "content": "hello"}


@pytest.fixture(scope="module")
def complete(catalog):
    return lambda **body: parse_completion({"model": "a", "prompt": "the cat", **body}, catalog, STAMP)


@pytest.fixture(scope="module")
def chat(catalog):
    return lambda **body: parse_chat({"model": "a", "messages": [USER], **body}, catalog, STAMP)


def refusal(parse, **body) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse(**body)
    return caught.value


def prompts(generation) -> list[tuple[int, ...]]:
    return [request.prompt for request in generation.requests]


def test_a_prompt_has_four_forms(complete, tokenizer):
    cat, dog = (tokenizer.encode(word, special=True) for word in ("cat", "dog"))
    assert prompts(complete(prompt="cat")) == [cat]
    assert prompts(complete(prompt=["cat", "dog"])) == [cat, dog]
    assert prompts(complete(prompt=[5, 6])) == [(5, 6)]
    assert prompts(complete(prompt=[[5], [6, 7]])) == [(5,), (6, 7)]


def test_a_token_that_the_model_does_not_have_is_refused_however_it_comes(tokenizer, catalog):
    """Its tokenizer has a [PAD] that was added without a row for it."""
    narrow = Catalog([served(tokenizer, "a", spec=spec(tokenizer.encode("dog", special=False)[-1]))])
    last = narrow.find("a").spec.vocab
    bodies = {"prompt": "a dog", "messages": [{"role": "user", "content": "a dog"}]}
    for param, parse in (("prompt", parse_completion), ("messages", parse_chat)):
        error = refusal(lambda parse=parse, param=param: parse({"model": "a", param: bodies[param]}, narrow, STAMP))
        assert (error.status, error.param) == (400, param), error
        assert re.search(rf"Token \d+, '.+', is out of the model's vocabulary, which has tokens from 0 to {last - 1}\.", str(error))
    with pytest.raises(RequestError, match=f"token ids from 0 to {last - 1}, got "):
        parse_completion({"model": "a", "prompt": [2, last]}, narrow, STAMP)
    assert parse_completion({"model": "a", "prompt": [2, last - 1]}, narrow, STAMP)


def test_only_texts_get_a_bos_and_only_if_it_is_wanted(complete):
    assert prompts(complete(prompt="cat"))[0][0] == BOS
    assert BOS not in prompts(complete(prompt="cat", add_special_tokens=False))[0]
    assert prompts(complete(prompt=[BOS, 5])) == [(BOS, 5)]


def test_defaults_are_openais(complete, chat):
    sampling = complete().requests[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (1.0, 1.0, 0, 0.0)
    assert sampling.max_tokens == 16
    request = chat().requests[0]
    assert request.sampling.max_tokens == 100 - len(request.prompt)


def test_defaults_of_the_model_stand_below_the_request(tokenizer):
    catalog = Catalog([served(tokenizer, "a", defaults=SamplingDefaults(temperature=0.5, top_p=0.9, top_k=20))])
    body = {"prompt": "cat", "top_k": 3, "top_p": None}
    sampling = parse_completion(body, catalog, STAMP).requests[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 3)


NULLABLE = (
    *("n", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "stop_token_ids", "ignore_eos"),
    *("stream", "stream_options", "logprobs", "echo", "presence_penalty", "frequency_penalty", "repetition_penalty"),
    *("logit_bias", "suffix", "best_of", "user", "response_format", "structured_outputs", "tools", "tool_choice"),
    *("top_logprobs", "max_completion_tokens", "chat_template_kwargs", "min_tokens", "bad_words", "allowed_token_ids"),
    *("include_stop_str_in_output", "skip_special_tokens", "truncate_prompt_tokens", "prompt_logprobs", "return_token_ids"),
    *("guided_json", "continue_final_message", "add_generation_prompt", "parallel_tool_calls", "documents", "add_special_tokens"),
)


@given(names=st.sets(st.sampled_from(NULLABLE)))
def test_null_means_the_default(complete, chat, names):
    nulls = dict.fromkeys(names)
    assert complete(**nulls).requests == complete().requests
    assert chat(**nulls).requests == chat().requests


def test_greedy_is_a_temperature_of_almost_nothing(complete):
    assert complete(temperature=0.000001).requests[0].sampling.temperature == 0
    assert complete(temperature=0.0001).requests[0].sampling.temperature == 0.0001


def test_eos_ends_a_request_unless_it_is_ignored(complete):
    assert complete().requests[0].sampling.stop_token_ids == {EOS}
    assert complete(stop_token_ids=[9]).requests[0].sampling.stop_token_ids == {EOS, 9}
    assert complete(ignore_eos=True).requests[0].sampling.stop_token_ids == frozenset()


@given(seed=st.integers(-(2**63), 2**63 - 1), n=st.integers(2, 8))
def test_samples_have_distinct_seeds_that_the_request_fixes(complete, seed, n):
    seeds = [request.sampling.seed for request in complete(seed=seed, n=n).requests]
    assert seeds[0] == seed
    assert len(set(seeds)) == n
    assert seeds == [request.sampling.seed for request in complete(seed=seed, n=n).requests]


def test_without_a_seed_every_choice_has_one_of_the_servers(complete):
    assert [request.sampling.seed for request in complete(prompt=["a", "b"], n=2).requests] == [7, 8, 9, 10]


def test_max_tokens_is_cut_to_the_context(complete, chat):
    assert complete(prompt=[5] * 90, max_tokens=50).requests[0].sampling.max_tokens == 10
    assert complete(prompt=[5] * 99).requests[0].sampling.max_tokens == 1
    assert chat(max_tokens=3, max_completion_tokens=4).requests[0].sampling.max_tokens == 4


def test_a_prompt_without_room_for_an_answer_is_too_long(complete):
    error = refusal(complete, prompt=[5] * 100)
    assert (error.code, error.param, error.status) == ("context_length_exceeded", "prompt", 400)
    assert str(error).startswith("This model's maximum context length is 100 tokens. However, your prompt has 100 tokens")


def test_text_parts_are_one_text(chat):
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    assert prompts(chat(messages=[{"role": "user", "content": parts}])) == prompts(chat())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": 5}, "model"),
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [5, "a"]}, "prompt"),
        ({"prompt": [VOCAB]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"top_k": -2}, "top_k"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"n": 128, "prompt": ["a"] * 100}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ["a"] * 65}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stop": {"a": 1}}, "stop"),
        ({"stop_token_ids": [VOCAB]}, "stop_token_ids"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"prompt_logprobs": 21}, "prompt_logprobs"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
        ({"echo": 1}, "echo"),
        ({"max_tokens": 5, "min_tokens": 6}, "min_tokens"),
        ({"max_tokens": 0, "min_tokens": 1, "echo": True}, "min_tokens"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": -2.1}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"5": True}}, "logit_bias"),
        ({"logit_bias": {str(VOCAB): 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"\N{FULLWIDTH DIGIT NINE}": 1}}, "logit_bias"),
        ({"logit_bias": {"9" * 10**5: 1}}, "logit_bias"),
        ({"logit_bias": []}, "logit_bias"),
        ({"allowed_token_ids": [VOCAB]}, "allowed_token_ids"),
        ({"allowed_token_ids": []}, "allowed_token_ids"),
        ({"logit_bias": {str(token): 1 for token in range(MOST_BIASES + 1)}}, "logit_bias"),
        ({"bad_words": [""]}, "bad_words"),
        ({"bad_words": ["a" * (MOST_BAD_WORD_CHARACTERS + 1)]}, "bad_words"),
        ({"bad_words": ["xyz" * 80] * 100}, "bad_words"),
        ({"stop": "a" * (MOST_STOP_CHARACTERS + 1)}, "stop"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": 100}, "truncate_prompt_tokens"),
        ({"suffix": "a"}, "suffix"),
        ({"structured_outputs": {"regex": "("}}, "structured_outputs.regex"),
        ({"best_of": 2}, "best_of"),
        ({"best_of": 3, "n": 2}, "best_of"),
    ],
)
def test_a_wrong_field_is_named(complete, body, param):
    error = refusal(complete, **body)
    assert (error.param, error.status) == (param, 400)
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    "body",
    [
        {"logprobs": 1},
        {"top_logprobs": 2},
        {"top_logprobs": 21, "logprobs": True},
        {"continue_final_message": True},
        {"documents": 5},
        {"max_completion_tokens": 0},
        {"tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"chat_template": "{{ 1 }}"},
        {"chat_template_kwargs": []},
    ],
)
def test_a_wrong_chat_field_is_named(chat, body):
    assert refusal(chat, **body).param == next(iter(body))


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        "hello",
        ["hello"],
        [{"role": "wizard", "content": "x"}],
        [{"role": ["user"], "content": "x"}],
        [{"role": "user"}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "assistant", "content": "x", "tool_calls": [{}]}],
        [{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
        [{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]}],
        [{"role": "user", "content": "x", "tool_calls": [{"function": {"name": "f"}}]}],
        [{"role": "assistant", "content": None, "tool_calls": []}],
    ],
)
def test_a_wrong_message_is_refused(chat, messages):
    assert str(refusal(chat, messages=messages).param).startswith("messages")


@pytest.mark.parametrize(
    "body",
    [
        {"best_of": 1, "logprobs": None, "frequency_penalty": 0, "presence_penalty": 0.0, "repetition_penalty": 1.0, "echo": False},
        {"best_of": 2, "n": 2},
        {"response_format": {"type": "text"}, "logit_bias": {}, "suffix": ""},
    ],
)
def test_a_field_that_changes_nothing_is_taken(complete, body):
    assert complete(**body).unknown == ()


def test_every_way_of_drawing_reaches_the_engine(complete, tokenizer):
    sampling = (
        complete(
            top_k=3,
            min_p=0.1,
            presence_penalty=1,
            frequency_penalty=-1,
            repetition_penalty=1.5,
            logit_bias={"5": -100, "6": 2.5},
            allowed_token_ids=[5, 6],
            bad_words=["cat"],
            min_tokens=4,
            logprobs=2,
            prompt_logprobs=1,
            structured_outputs={"regex": "a"},
        )
        .requests[0]
        .sampling
    )
    assert (sampling.top_k, sampling.min_p, sampling.min_tokens) == (3, 0.1, 4)
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty) == (1.0, -1.0, 1.5)
    assert (sampling.logit_bias, sampling.allowed_token_ids) == (((5, -100.0), (6, 2.5)), {5, 6})
    assert sampling.bad_words == (tokenizer.encode("cat", special=False), tokenizer.encode(" cat", special=False))
    assert (sampling.logprobs, sampling.prompt_logprobs) == (2, 1)
    assert sampling.grammar == Grammar(kind=GrammarKind.REGEX, text="a")


def test_penalties_and_filters_of_the_checkpoint_are_defaults(tokenizer):
    catalog = Catalog([served(tokenizer, "a", defaults=SamplingDefaults(min_p=0.2, repetition_penalty=1.1))])
    given = parse_completion({"prompt": "cat"}, catalog, STAMP).requests[0].sampling
    assert (given.min_p, given.repetition_penalty) == (0.2, 1.1)
    own = parse_completion({"prompt": "cat", "min_p": 0, "repetition_penalty": 1}, catalog, STAMP).requests[0].sampling
    assert (own.min_p, own.repetition_penalty) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"echo": True, "logprobs": 3}, (3, 3)),
        ({"echo": True}, (None, None)),
        ({"logprobs": 3}, (3, None)),
        ({"echo": True, "logprobs": 0, "prompt_logprobs": 2}, (0, 2)),
    ],
)
def test_an_echo_with_logprobs_needs_those_of_the_prompt(complete, body, told):
    sampling = complete(**body).requests[0].sampling
    assert (sampling.logprobs, sampling.prompt_logprobs) == told


def test_a_chats_logprobs_are_a_wish_and_a_number(chat):
    assert chat(logprobs=True).requests[0].sampling.logprobs == 0
    assert chat(logprobs=True, top_logprobs=5).requests[0].sampling.logprobs == 5
    assert chat(logprobs=False, top_logprobs=0).requests[0].sampling.logprobs is None


def test_an_echo_alone_asks_the_engine_for_the_one_token_it_must_make(complete):
    generation = complete(max_tokens=0, echo=True)
    assert (generation.silent, generation.requests[0].sampling.max_tokens) == (True, 1)


def test_min_tokens_are_cut_with_max_tokens_to_the_context(complete):
    sampling = complete(prompt=[5] * 95, max_tokens=50, min_tokens=40).requests[0].sampling
    assert (sampling.min_tokens, sampling.max_tokens) == (5, 5)


def test_a_prompt_is_cut_at_its_beginning(complete, chat):
    assert prompts(complete(prompt=[5, 6, 7], truncate_prompt_tokens=2)) == [(6, 7)]
    assert prompts(complete(prompt=[5, 6], truncate_prompt_tokens=2)) == [(5, 6)]
    assert len(prompts(complete(prompt=[5] * 200, truncate_prompt_tokens=-1))[0]) == 99
    assert prompts(chat(truncate_prompt_tokens=3))[0] == prompts(chat())[0][-3:]


def test_a_cut_prompt_is_echoed_as_what_is_left(complete, tokenizer):
    (cut,) = prompts(complete(prompt="the cat", truncate_prompt_tokens=2))
    assert complete(prompt="the cat", truncate_prompt_tokens=2, echo=True).echo == (tokenizer.decode(cut),)
    assert complete(prompt=["the cat", [5]], echo=True).echo == ("the cat", tokenizer.decode([5]))


def test_the_last_message_may_be_continued(chat, tokenizer):
    messages = [USER, {"role": "assistant", "content": "Sure: "}]
    body = {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    assert prompts(chat(**body)) == [tokenizer.encode("<s>user: hello\nassistant: Sure: ", special=False)]
    assert refusal(chat, **{**body, "add_generation_prompt": True}).param == "continue_final_message"


def test_a_chat_brings_its_own_bos_unless_another_is_asked_for(chat):
    assert prompts(chat())[0].count(BOS) == 1
    assert prompts(chat(add_special_tokens=True))[0].count(BOS) == 2


@pytest.mark.parametrize(("old", "new"), [("guided_json", "json"), ("guided_regex", "regex"), ("guided_choice", "choice")])
def test_a_field_that_was_renamed_says_its_new_name(complete, old, new):
    error = refusal(complete, **{old: "a"})
    assert (error.param, error.code) == (old, "unsupported_value")
    assert f'structured_outputs {{"{new}": ...}}' in str(error)


def test_unknown_fields_are_told_but_not_refused(complete):
    assert complete(frobnicate=1, user="me", reasoning_effort="low", verbosity="low").unknown == ("frobnicate",)


def test_of_many_unknown_fields_a_few_are_told_and_each_by_its_beginning():
    names = [f"{number:04}" + "x" * 10_000 for number in range(500)]
    assert Fields(dict.fromkeys(names, 1)).unread(100) == [name[:100] for name in names[:100]]


def test_a_model_must_be_named_where_there_are_several(catalog, tokenizer):
    with pytest.raises(RequestError, match="model is required") as error:
        parse_completion({"prompt": "x"}, catalog, STAMP)
    assert (error.value.status, error.value.param) == (400, "model")
    assert parse_completion({"prompt": "x"}, Catalog([served(tokenizer, "only")]), STAMP).model_name == "only"


def test_a_model_without_a_template_says_so(catalog):
    with pytest.raises(RequestError, match="has no chat template"):
        parse_chat({"model": "plain", "messages": [USER]}, catalog, STAMP)


def test_errors_stay_short_whatever_the_client_sends(complete):
    assert len(str(refusal(complete, stop="", temperature=["x" * 10**6] * 1000))) < 500


def test_a_salt_goes_with_every_choice_of_a_request(complete, chat):
    assert [request.cache_salt for request in complete(prompt=["cat", "dog"], n=2, cache_salt="mine").requests] == ["mine"] * 4
    assert chat().requests[0].cache_salt == chat(cache_salt=None).requests[0].cache_salt == ""
    assert refusal(complete, cache_salt=5).param == "cache_salt"
    assert refusal(complete, cache_salt="\ud800").param == "cache_salt"  # no message to a worker could hold it


def test_a_prompt_and_messages_that_are_far_too_long_are_refused_as_too_long(complete, chat):
    for error in (refusal(complete, prompt="the cat " * 10**5), refusal(chat, messages=[{"role": "user", "content": "the cat " * 10**5}])):
        assert (error.status, error.code) == (400, "context_length_exceeded")
    assert "characters" in str(refusal(complete, prompt="the cat " * 2**18, truncate_prompt_tokens=5))
    assert len(complete(prompt="the cat " * 2**15, truncate_prompt_tokens=5).requests[0].prompt) == 5
