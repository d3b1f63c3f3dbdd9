"""Prompts of random tokens and of data sets."""

import json

import pytest

from muxjax.bench import dataset
from muxjax.bench.prompts import LEAST_ID, LONGEST, RandomTokens, Text, random_bodies, text_bodies
from muxjax.errors import ConfigError
from muxjax.workload.trace import Arrival


def tokens(source: RandomTokens, number: int, arrival: Arrival) -> list[int]:
    return json.loads(source.of(number, arrival))


def test_random_prompts_have_their_lengths_and_differ():
    source = RandomTokens(1200, 0)
    prompts = [tokens(source, number, Arrival(0.0, "m", 40, 1)) for number in range(100)]
    assert {len(prompt) for prompt in prompts} == {40} and len({tuple(prompt[:4]) for prompt in prompts}) == 100
    assert all(LEAST_ID <= token < 1200 for prompt in prompts for token in prompt)
    assert (
        prompts[3]
        == tokens(RandomTokens(1200, 0), 3, Arrival(0.0, "m", 40, 1))
        != tokens(RandomTokens(1200, 1), 3, Arrival(0.0, "m", 40, 1))
    )
    assert len(tokens(source, LONGEST - 1, Arrival(0.0, "m", LONGEST, 1))) == LONGEST


def test_prompts_of_a_prefix_group_begin_alike():
    source, one = RandomTokens(1000, 0), Arrival(0.0, "m", 30, 1, "g", 20)
    first, second = tokens(source, 0, one), tokens(source, 1, one._replace(prompt_tokens=50))
    assert first[:20] == second[:20] and first[20:] != second[20:30] and (len(first), len(second)) == (30, 50)
    assert tokens(source, 0, one._replace(model="n"))[:20] != first[:20] != tokens(source, 0, one._replace(prefix_group="h"))[:20]
    assert len(tokens(source, 0, one._replace(prompt_tokens=20))) == 20


def test_bodies_are_what_the_endpoints_take():
    arrival = Arrival(0.0, 'a"b', 3, 7)
    body = json.loads(random_bodies(100, 0, {"temperature": 0})(0, arrival))
    assert (body["model"], body["max_tokens"], len(body["prompt"]), body["temperature"]) == ('a"b', 7, 3, 0)
    assert body["stream"] and body["stream_options"] == {"include_usage": True}
    texts = [Text(prompt="hällo", output_tokens=7), Text(prompt=[{"role": "user", "content": "x"}], output_tokens=7)]
    chats = [json.loads(text_bodies(texts, {}, chat=True)(number, arrival))["messages"] for number in range(3)]
    assert chats == [[{"role": "user", "content": "hällo"}], texts[1].prompt, [{"role": "user", "content": "hällo"}]]
    assert json.loads(text_bodies(texts[:1], {}, chat=False)(0, arrival))["prompt"] == "hällo"


@pytest.mark.parametrize("below", [0, LEAST_ID, 2**24 + 1])
def test_there_must_be_tokens_to_choose_from(below):
    with pytest.raises(ConfigError, match="prompt_ids_below"):
        RandomTokens(below, 0)


def conversation(*turns: tuple[str, str]) -> dict:
    return {"id": "x", "conversations": [{"from": who, "value": said} for who, said in turns]}


def test_sharegpt_is_what_a_person_asks_first(tmp_path):
    path = tmp_path / "sharegpt.json"
    good = conversation(("human", "Why?"), ("gpt", "r" * 400), ("human", "more"))
    path.write_text(json.dumps([good, conversation(("gpt", "hi"), ("human", "x")), conversation(("human", "alone")), {"id": "y"}]))
    assert dataset.read(path) == [Text(prompt="Why?", output_tokens=100)]
    assert dataset.read(path, 5) == [Text(prompt="Why?", output_tokens=5)]


def test_plain_lines_are_texts_tokens_and_chats(tmp_path):
    path = tmp_path / "plain.jsonl"
    messages = [{"role": "user", "content": "x"}]
    lines = [{"prompt": "a", "output_tokens": 3}, {"prompt": [1, 2], "max_tokens": 4}, {"messages": messages, "max_completion_tokens": 5}]
    path.write_text("\n".join(map(json.dumps, lines)))
    texts = dataset.read(path)
    assert [(text.prompt, text.output_tokens, text.is_chat) for text in texts] == [("a", 3, False), ([1, 2], 4, False), (messages, 5, True)]
    assert [text.length for text in texts] == [1, 2, 8]


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "at least one prompt"),
        ("[]", "at least one prompt"),
        ("[3]", "a list of conversations"),
        ('[{"conversations": [{"from": 1}]}]', "a list of conversations"),
        ("nonsense", "d.json:1: the line must be a JSON object"),
        ('{"prompt": "a"}', "d.json:1: output_tokens must be a whole number, or --output-len be given"),
        ('{"prompt": "a", "max_tokens": 0}', "d.json:1: max_tokens must be a whole number from 1"),
        ('{"prompt": "", "max_tokens": 1}', "d.json:1: prompt must be a text"),
        ('{"prompt": [-1], "max_tokens": 1}', "d.json:1: prompt must be a whole number"),
        ('{"messages": [{}], "max_tokens": 1}', "d.json:1: messages must be a list of messages"),
    ],
)
def test_what_is_no_data_set_is_told_with_its_place(tmp_path, text, said):
    path = tmp_path / "d.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        dataset.read(path)


def test_a_data_set_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        dataset.read(tmp_path / "none")
