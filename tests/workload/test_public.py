"""Public traces are read from small files in their formats, made by hand; what does not belong there is named with its place."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.errors import ConfigError
from muxjax.workload.files import read, write
from muxjax.workload.public import azure, burst_gpt, mooncake
from muxjax.workload.trace import Arrival

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-12-24 18:59:59.9000000,310,44
2023-12-24 19:00:00.4006000,420,131
2023-12-24 19:00:00.5000000,10,0
2023-12-24 19:00:01.9000000,905,55
"""
BURST_GPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,460,20,480,Conversation log
45,ChatGPT,1100,240,1340,Conversation log
45.5,GPT-4,402,288,690,API log
60,GPT-4,900,0,900,API log
120,ChatGPT,1300,700,2000,Conversation log
"""
MOONCAKE = [
    {"timestamp": 3000, "input_length": 6600, "output_length": 500, "hash_ids": [0, 1, 2]},
    {"timestamp": 3000, "input_length": 300, "output_length": 480, "hash_ids": [0]},
    {"timestamp": 3000, "input_length": 7000, "output_length": 10, "hash_ids": []},
    {"timestamp": 6000, "input_length": 9000, "output_length": 810, "hash_ids": [46, 47]},
    {"timestamp": 9000, "input_length": 5000, "output_length": 0, "hash_ids": [46]},
]


def test_azure_counts_seconds_from_the_first_request_and_drops_empty_answers(tmp_path):
    assert list(azure(file(tmp_path, AZURE))) == [
        Arrival(0.0, "azure", 310, 44),
        Arrival(0.5006, "azure", 420, 131),
        Arrival(2.0, "azure", 905, 55),
    ]


def test_azure_times_may_carry_a_zone_a_byte_order_mark_and_more_columns(tmp_path):
    text = "\ufeffTIMESTAMP,Extra,ContextTokens,GeneratedTokens\r\n2024-05-10 00:00:00+00:00,x,1,2\r\n2024-05-10 00:00:01.5+00:00,x,3,4\r\n"

    assert list(azure(file(tmp_path, text))) == [Arrival(0.0, "azure", 1, 2), Arrival(1.5, "azure", 3, 4)]


def test_burst_gpt_keeps_its_models_and_drops_failures(tmp_path):
    assert list(burst_gpt(file(tmp_path, BURST_GPT))) == [
        Arrival(0.0, "ChatGPT", 460, 20),
        Arrival(40.0, "ChatGPT", 1100, 240),
        Arrival(40.5, "GPT-4", 402, 288),
        Arrival(115.0, "ChatGPT", 1300, 700),
    ]


def test_mooncake_without_jitter_is_as_it_is_rounded(tmp_path):
    assert list(mooncake(jsonl(tmp_path, MOONCAKE), jitter_s=0.0)) == [
        Arrival(0.0, "mooncake", 6600, 500, "0", 512),
        Arrival(0.0, "mooncake", 300, 480, "0", 300),
        Arrival(0.0, "mooncake", 7000, 10),
        Arrival(3.0, "mooncake", 9000, 810, "46", 512),
    ]


@given(st.lists(st.integers(0, 20), max_size=40), st.floats(0, 10), st.integers(0, 2**32))
def test_jitter_moves_each_request_within_its_step_and_keeps_the_order(tmp_path_factory, steps, jitter_s, seed):
    steps.sort()
    records = [{"timestamp": 3000 * step, "input_length": i + 1, "output_length": 1, "hash_ids": []} for i, step in enumerate(steps)]
    path = jsonl(tmp_path_factory.mktemp("trace"), records)
    trace = list(mooncake(path, seed=seed, jitter_s=jitter_s))

    assert trace == sorted(trace, key=lambda arrival: arrival.time_s)
    assert sorted(arrival.prompt_tokens for arrival in trace) == list(range(1, len(steps) + 1))
    for arrival in trace:
        step_s = 3 * (steps[arrival.prompt_tokens - 1] - steps[0])
        assert step_s <= arrival.time_s <= step_s + jitter_s + 1e-6
    assert trace == list(mooncake(path, seed=seed, jitter_s=jitter_s))


def test_jitter_is_even_over_the_step_and_follows_the_seed(tmp_path):
    path = jsonl(tmp_path, MOONCAKE[:1] * 3000)
    times = [arrival.time_s for arrival in mooncake(path)]

    for part in (0.25, 0.5, 0.75):
        assert times[int(part * 3000)] == pytest.approx(3 * part, abs=0.1)
    assert times != [arrival.time_s for arrival in mooncake(path, seed=1)]


def test_only_the_steps_within_reach_of_the_jitter_are_held(tmp_path):
    endless = [{"timestamp": 3000 * i, "input_length": 1, "output_length": 1, "hash_ids": []} for i in range(3)] + [{"timestamp": "end"}]

    assert len(list(itertools.islice(mooncake(jsonl(tmp_path, endless)), 2))) == 2


@pytest.mark.parametrize("reader, text", [(azure, AZURE), (burst_gpt, BURST_GPT), (mooncake, "\n".join(map(json.dumps, MOONCAKE)))])
def test_what_is_read_can_be_written_as_a_trace(tmp_path, reader, text):
    trace = list(reader(file(tmp_path, text)))
    write(tmp_path / "ours.jsonl", trace)

    assert list(read(tmp_path / "ours.jsonl")) == trace != []


COUNT = "a whole number from 0 to 2147483647"
WRONG = {
    "no header": (azure, "", 1, "the header must be one with the column TIMESTAMP once, got ''"),
    "a column short": (azure, "TIMESTAMP,ContextTokens\n", 1, "the header must be one with the column GeneratedTokens once, got"),
    "a column twice": (
        burst_gpt,
        BURST_GPT.replace("Log Type", "Model"),
        1,
        "the header must be one with the column Model once, got",
    ),
    "no date": (azure, AZURE.replace("2023-12-24 19:00:00.4", "noon "), 3, "TIMESTAMP must be a time such as 2023-11-16 18:15:46.68, got"),
    "back in time": (azure, AZURE.replace("19:00:01", "18:00:01"), 5, "TIMESTAMP must be no earlier than the line before, 0.600000 s, got"),
    "below zero": (azure, AZURE.replace("420", "-420"), 3, f"ContextTokens must be {COUNT}, got '-420'"),
    "half a token": (azure, AZURE.replace(",131", ",13.1"), 3, f"GeneratedTokens must be {COUNT}, got '13.1'"),
    "an empty cell": (burst_gpt, BURST_GPT.replace("460", ""), 2, f"Request tokens must be {COUNT}, got ''"),
    "too many tokens": (burst_gpt, BURST_GPT.replace("288", "9" * 12), 4, f"Response tokens must be {COUNT}, got 999999999999"),
    "a short row": (burst_gpt, BURST_GPT.replace(",API log", "", 1), 4, "the number of columns must be 6 as in the header, got 5"),
    "a time that is no number": (
        burst_gpt,
        BURST_GPT.replace("\n45,", "\nnan,"),
        3,
        "Timestamp must be a finite number, 0 or more, got nan",
    ),
    "a time that is a word": (
        burst_gpt,
        BURST_GPT.replace("\n45,", "\nnoon,"),
        3,
        "Timestamp must be a finite number, 0 or more, got 'noon'",
    ),
    "no model": (burst_gpt, BURST_GPT.replace("GPT-4", "", 1), 4, "Model must be a text that is not empty, got ''"),
    "no JSON": (mooncake, "timestamp\n", 1, "the line must be a JSON object, got"),
    "no length": (mooncake, '{"timestamp": 0}', 1, f"input_length must be {COUNT}, got None"),
    "a time that is a text": (mooncake, '{"timestamp": "0"}', 1, "timestamp must be a finite number, 0 or more, got '0'"),
    "a hash that is a text": (
        mooncake,
        json.dumps(MOONCAKE[0] | {"hash_ids": ["x"]}),
        1,
        f"hash_ids must be {COUNT}, got 'x'",
    ),
    "no hashes": (mooncake, json.dumps(MOONCAKE[0] | {"hash_ids": None}), 1, "hash_ids must be a list of whole numbers, got None"),
}


@pytest.mark.parametrize("reader, text, line, message", WRONG.values(), ids=WRONG)
def test_what_does_not_belong_is_named_with_its_place(tmp_path, reader, text, line, message):
    path = file(tmp_path, text)

    with pytest.raises(ConfigError) as caught:
        list(reader(path))
    assert str(caught.value).startswith(f"{path}:{line}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", [azure, burst_gpt, mooncake])
def test_a_file_that_is_not_there_is_an_error(tmp_path, reader):
    with pytest.raises(ConfigError, match="nope cannot be read: No such file"):
        list(reader(tmp_path / "nope"))


def test_bytes_that_are_no_text_are_an_error(tmp_path):
    (tmp_path / "t").write_bytes(AZURE.encode() + b"\xff\xfe,1,1\n")

    with pytest.raises(ConfigError, match="t cannot be read as CSV"):
        list(azure(tmp_path / "t"))


def test_jitter_out_of_its_limits_is_an_error(tmp_path):
    for options in ({"jitter_s": -1.0}, {"jitter_s": float("nan")}, {"seed": -1}):
        with pytest.raises(ConfigError, match=f"{next(iter(options))} must be 0 or more"):
            list(mooncake(jsonl(tmp_path, MOONCAKE), **options))


def file(folder, text: str):
    path = folder / "t"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def jsonl(folder, records: list[dict]):
    return file(folder, "\n".join(map(json.dumps, records)))
