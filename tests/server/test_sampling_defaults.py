"""What a checkpoint prefers, by generation_config.json, and what a request says instead."""

import json
import logging

import pytest

from muxjax.errors import ConfigError, RequestError
from muxjax.server.catalog import Catalog
from muxjax.server.openai.schema import parse_chat, parse_completion
from muxjax.server.sampling_defaults import SamplingDefaults, load_defaults
from muxjax.specs.generation_fields import HONOURED, NEUTRAL
from muxjax.specs.known_fields import NAMES
from tests.server.kit import EOS, STAMP, served, spec, write_json


@pytest.fixture
def read(tmp_path):
    """The defaults of a file's values, and what was warned of."""

    def write_and_read(values, name="generation_config.json"):
        write_json(tmp_path / name, values)
        return load_defaults(tmp_path, "a")

    return write_and_read


@pytest.fixture
def sampling(tokenizer, read):
    """That of a completion, under a checkpoint's preferences."""

    def parse(values, **body):
        return generation(values, **body).requests[0].sampling

    def generation(values, **body):
        catalog = Catalog([served(tokenizer, "a", defaults=read(values).within(spec()))])
        return parse_completion({"prompt": [5, 6, 7], **body}, catalog, STAMP)

    parse.generation = generation
    return parse


def test_sampling_defaults_come_from_the_checkpoint(tmp_path, read):
    assert load_defaults(tmp_path, "a") == SamplingDefaults(temperature=1.0, top_p=1.0, top_k=0)
    values = {"temperature": 0.6, "top_p": None, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.05}
    assert read(values) == SamplingDefaults(temperature=0.6, top_p=1.0, top_k=20, min_p=0.1, repetition_penalty=1.05)
    with pytest.raises(ConfigError, match=r"generation_config\.json: temperature must be a number from 0 to 1000, got 'hot'"):
        read({"temperature": "hot"})


def test_what_a_request_may_say_a_checkpoint_may_prefer(read):
    assert read({"temperature": 2.5, "top_k": -1, "top_p": 1, "eos_token_id": -1}) == SamplingDefaults(temperature=2.5, top_k=0)
    assert read({"temperature": 0, "top_k": 0}) == SamplingDefaults(temperature=0, top_k=0)


@pytest.mark.parametrize("values", [{"top_k": -2}, {"top_k": 2**31}, {"temperature": -0.1}, {"temperature": float("nan")}, {"min_p": True}])
def test_what_no_request_may_say_refuses_the_model_by_name(read, values):
    with pytest.raises(ConfigError, match=rf"generation_config\.json: {next(iter(values))} must be a number from"):
        read(values)


def test_a_model_that_prefers_a_high_temperature_gets_it_and_its_requests_may_name_it(tokenizer):
    catalog = Catalog([served(tokenizer, "a", defaults=SamplingDefaults(temperature=2.5))])
    bodies = ({"prompt": "cat"}, {"prompt": "cat", "temperature": 2.2})
    assert [parse_completion(body, catalog, STAMP).requests[0].sampling.temperature for body in bodies] == [2.5, 2.2]
    with pytest.raises(RequestError, match="temperature"):
        parse_completion({"prompt": "cat", "temperature": 2.6}, catalog, STAMP)


def test_config_json_is_asked_where_there_is_no_generation_config(read):
    assert read({"temperature": 0.5, "vocab_size": 9}, "config.json") == SamplingDefaults(temperature=0.5)
    assert read({"top_k": 3}) == SamplingDefaults(top_k=3)


def test_a_checkpoint_that_does_not_sample_is_greedy_unless_a_request_says_otherwise(sampling):
    assert sampling({"do_sample": False, "temperature": 0.6}).temperature == 0
    assert sampling({"do_sample": False}, temperature=0.7).temperature == 0.7
    assert sampling({"do_sample": True, "temperature": 0.6}).temperature == sampling({"temperature": 0.6}).temperature == 0.6


def test_bad_words_are_the_checkpoints_or_the_requests(sampling, tokenizer):
    values = {"bad_words_ids": [[5], [6, 7], [EOS], [8, 300], [-1]]}
    assert sampling(values).bad_words == ((5,), (6, 7))  # transformers too lets an end of sequence through
    assert sampling(values, bad_words=["the"]).bad_words == sampling({}, bad_words=["the"]).bad_words
    assert sampling(values, bad_words=[]).bad_words == ()


def test_suppressed_tokens_are_suppressed_whatever_a_request_says(sampling):
    values = {"suppress_tokens": [9, -1, 300, EOS], "bad_words_ids": [[5]]}
    assert sampling(values).bad_words == ((5,), (9,), (EOS,))
    assert sampling(values, bad_words=[]).bad_words == ((9,), (EOS,))


def test_biases_of_single_tokens_are_those_of_a_request(sampling):
    values = {"sequence_bias": [[[5], -1.5], [[300], 2]]}
    assert sampling(values).logit_bias == ((5, -1.5),)
    assert sampling(values, logit_bias={"7": 1}).logit_bias == ((7, 1.0),)


def test_the_least_number_of_tokens_counts_the_prompt_or_not(sampling):
    assert sampling({"min_new_tokens": 4}).min_tokens == 4
    assert sampling({"min_length": 5}).min_tokens == 2  # of a prompt of three
    assert sampling({"min_length": 2}).min_tokens == 0
    assert sampling({"min_length": 9, "min_new_tokens": 0}).min_tokens == 0
    assert sampling({"min_new_tokens": 4}, min_tokens=1).min_tokens == 1
    assert sampling({"min_new_tokens": 400}, max_tokens=5).min_tokens == 5


def test_stop_strings_end_answers_of_requests_without_their_own(sampling):
    values = {"stop_strings": ["\n\n", "END", "1", "2", "3"]}
    assert sampling.generation(values).stop == ("\n\n", "END", "1", "2", "3")
    assert sampling.generation({"stop_strings": "END"}).stop == ("END",)
    assert sampling.generation(values, stop="x").stop == ("x",)
    assert sampling.generation(values, stop=[]).stop == ()


def test_a_chat_has_as_many_tokens_as_the_checkpoint_prefers(tokenizer, read):
    catalog = Catalog([served(tokenizer, "a", defaults=read({"max_new_tokens": 12}))])
    body = {"messages": [{"role": "user", "content": "hello"}]}
    assert parse_chat(body, catalog, STAMP).requests[0].sampling.max_tokens == 12
    assert parse_chat({**body, "max_tokens": 20}, catalog, STAMP).requests[0].sampling.max_tokens == 20
    assert parse_completion({"prompt": [5]}, catalog, STAMP).requests[0].sampling.max_tokens == 16


@pytest.mark.parametrize(
    "values",
    [
        {"do_sample": "no"},
        {"suppress_tokens": 5},
        {"suppress_tokens": [True]},
        {"bad_words_ids": [5]},
        {"bad_words_ids": [[]]},
        {"min_new_tokens": -1},
        {"min_length": 2.5},
        {"max_new_tokens": True},
        {"stop_strings": [""]},
        {"stop_strings": {"a": 1}},
    ],
)
def test_what_is_honoured_must_be_right(read, values):
    with pytest.raises(ConfigError, match=rf"generation_config\.json: {next(iter(values))} must be"):
        read(values)


CHANGING = {
    "num_beams": 4,
    "no_repeat_ngram_size": 3,
    "sequence_bias": [[[5, 6], 1.0]],
    "forced_eos_token_id": 2,
    "begin_suppress_tokens": [220],
    "guidance_scale": 1.5,
    "token_healing": True,
    "watermarking_config": {"bias": 2.5},
    "typical_p": 0.9,
    "a_field_of_tomorrow": 1,
}


def test_what_changes_answers_and_is_not_honoured_is_one_warning(read, caplog):
    with caplog.at_level(logging.WARNING):
        assert read(CHANGING) == SamplingDefaults()
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("model a: ")
    assert "generation_config.json: fields that may change answers are not honoured: a_field_of_tomorrow = 1, " in message
    assert all(f"{name} = " in message for name in CHANGING)


def test_fields_of_config_json_that_are_no_generation_are_not_warned_of(read, caplog):
    with caplog.at_level(logging.WARNING):
        read({"a_field_of_tomorrow": 1, "vocab_size": 9, "num_beams": 4}, "config.json")
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["num_beams = 4"]


def test_what_changes_nothing_is_not_warned_of(read, caplog):
    harmless = dict.fromkeys(NAMES - {*NEUTRAL, *HONOURED}, 7)
    with caplog.at_level(logging.WARNING):
        read(harmless | {name: values[0] for name, values in NEUTRAL.items() if values} | dict.fromkeys(HONOURED))
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        read({"num_beams": True})  # a flag is no number
    assert "num_beams = True" in caplog.text


def test_every_field_of_transformers_is_known(read, caplog):
    transformers = pytest.importorskip("transformers")
    names = transformers.GenerationConfig().to_dict().keys() - {"eos_token_id"}
    assert names
    assert not names - NAMES
    with caplog.at_level(logging.WARNING):
        read(json.loads(transformers.GenerationConfig(**transformers.GenerationConfig._get_default_generation_params()).to_json_string()))
    assert not caplog.records
