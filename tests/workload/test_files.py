"""Traces come back from their files as they were, and a bad line is named with its place."""

import itertools
import json
import os
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.errors import ConfigError
from muxjax.workload import presets
from muxjax.workload.files import read, write
from muxjax.workload.trace import Arrival

GOOD = {"time_s": 2.5, "model": "a", "prompt_tokens": 90, "output_tokens": 7, "prefix_group": "g", "prefix_tokens": 64}
HEADER = '{"muxjax_trace": 1, "about": {}}'


@st.composite
def arrivals(draw) -> Arrival:
    prompt = draw(st.integers(1, 2**31 - 1))
    group = draw(st.none() | st.text(min_size=1))
    shared = 0 if group is None else draw(st.integers(0, prompt))
    times = st.floats(0, 1e9)
    return Arrival(draw(times), draw(st.text(min_size=1)), prompt, draw(st.integers(1, 2**31 - 1)), group, shared)


@given(st.lists(arrivals()))
def test_what_is_written_is_read(tmp_path_factory, trace):
    path = tmp_path_factory.mktemp("trace") / "trace.jsonl"
    trace.sort(key=lambda arrival: arrival.time_s)
    write(path, trace)

    assert list(read(path)) == trace


def test_same_seed_same_bytes(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(tmp_path / name, presets.by_name("burst").trace(20.0, seed))

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_a_file_says_its_version_and_its_fields(tmp_path):
    write(tmp_path / "t", [Arrival(0.5, "a", 3, 4)], {"workload": "burst"})

    assert (tmp_path / "t").read_text().splitlines() == [
        '{"muxjax_trace": 1, "about": {"workload": "burst"}}',
        '{"time_s": 0.5, "model": "a", "prompt_tokens": 3, "output_tokens": 4, "prefix_group": null, "prefix_tokens": 0}',
    ]


def test_prefix_tokens_may_be_left_out(tmp_path):
    bare = {field: value for field, value in GOOD.items() if field != "prefix_tokens"}

    assert list(read(written(tmp_path, bare))) == [Arrival(2.5, "a", 90, 7, "g", 0)]


def test_long_traces_pass_in_bounded_memory(tmp_path):
    def peak_bytes(count: int) -> int:
        tracemalloc.start()
        write(tmp_path / "t", (Arrival(float(i), "a", 3, 4) for i in range(count)))
        assert sum(1 for _ in read(tmp_path / "t")) == count
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(10)
    assert peak_bytes(10_000) < peak_bytes(100) + 50_000


def test_a_trace_held_whole_would_be_noticed():
    tracemalloc.start()
    held = [Arrival(float(i), "a", 3, 4) for i in range(10_000)]

    assert tracemalloc.get_traced_memory()[1] > 50_000 + len(held)
    tracemalloc.stop()


WRONG = {
    "a time that is no number": ("time_s", "soon", "a finite number, 0 or more, got 'soon'"),
    "a time before zero": ("time_s", -1, "a finite number, 0 or more, got -1"),
    "no time": ("time_s", None, "a finite number, 0 or more, got None"),
    "NaN": ("time_s", float("nan"), "a finite number, 0 or more, got nan"),
    "more than a float holds": ("time_s", 10**400, "a finite number, 0 or more, got 1" + "0" * 76 + "..."),
    "infinity": ("time_s", float("inf"), "a finite number, 0 or more, got inf"),
    "a time that is a truth": ("time_s", True, "a finite number, 0 or more, got True"),
    "no prompt": ("prompt_tokens", 0, "a whole number from 1 to 2147483647, got 0"),
    "half a token": ("prompt_tokens", 1.5, "a whole number from 1 to 2147483647, got 1.5"),
    "a token that is a truth": ("output_tokens", True, "a whole number from 1 to 2147483647, got True"),
    "too many tokens": ("output_tokens", 2**31, "a whole number from 1 to 2147483647, got 2147483648"),
    "no model": ("model", "", "a text that is not empty, got ''"),
    "a model that is a number": ("model", 7, "a text that is not empty, got 7"),
    "a group that is a number": ("prefix_group", 7, "a text that is not empty, got 7"),
    "more shared than there is": ("prefix_tokens", 91, "at most the prompt's 90, got 91"),
    "shared with nobody": ("prefix_group", None, "0 without a prefix_group, got 64"),
}


@pytest.mark.parametrize("field, value, message", WRONG.values(), ids=WRONG)
def test_a_bad_value_is_named_with_its_place_and_limit(tmp_path, field, value, message):
    path = written(tmp_path, {**GOOD, "time_s": 0}, {**GOOD, field: value})

    with pytest.raises(ConfigError) as caught:
        list(read(path))
    shown = "prefix_tokens" if value is None and field == "prefix_group" else field
    assert str(caught.value) == f"{path}:3: {shown} must be {message}"
    assert caught.value.field == shown


@pytest.mark.parametrize("line", ["{", "[]", "3", "\udcff", '{"time_s": ' + "9" * 5000 + "}", "[" * 100_000])
def test_a_line_that_is_no_object_is_an_error_of_one_line(tmp_path, line):
    path = tmp_path / "t"
    path.write_bytes(f"{HEADER}\n{line}\n".encode(errors="surrogateescape"))

    with pytest.raises(ConfigError, match=r"t:2: the line must be a JSON object, got") as caught:
        list(read(path))
    assert len(str(caught.value)) < len(str(path)) + 200
    assert "\n" not in str(caught.value)


def test_an_unknown_field_and_a_step_back_in_time_are_errors(tmp_path):
    with pytest.raises(ConfigError, match=r":2: the fields must be among model, output_tokens, .*, got 'modle'"):
        list(read(written(tmp_path, {**GOOD, "modle": "a"})))
    with pytest.raises(ConfigError, match=r":3: time_s must be a finite number, 2\.5 or more, got 2"):
        list(read(written(tmp_path, GOOD, {**GOOD, "time_s": 2})))


@pytest.mark.parametrize(
    "header, message",
    [
        ("", "muxjax_trace must be 1, the version, in the first line, got None"),
        (json.dumps(GOOD), "muxjax_trace must be 1, the version, in the first line, got None"),
        ('{"muxjax_trace": 2}', "muxjax_trace must be 1, the version, in the first line, got 2"),
        ('{"muxjax_trace": true}', "muxjax_trace must be 1, the version, in the first line, got True"),
        ('{"muxjax_trace": 1, "about": 3}', "about must be an object, got 3"),
        ('{"muxjax_trace": 1, "seed": 3}', "the fields must be among about, muxjax_trace, got 'seed'"),
    ],
)
def test_another_version_is_not_read(tmp_path, header, message):
    path = tmp_path / "t"
    path.write_text(header)

    with pytest.raises(ConfigError) as caught:
        list(read(path))
    assert str(caught.value) == f"{path}:1: {message}"


def test_blank_lines_are_passed_over(tmp_path):
    path = tmp_path / "t"
    path.write_text(f"{HEADER}\n\n{json.dumps(GOOD)}\n\n")

    assert len(list(read(path))) == 1


@pytest.mark.parametrize(
    "bad", [Arrival(0.5, "a", 1, 1), Arrival(float("nan"), "a", 1, 1), Arrival(2.0, "a", 0, 1), Arrival(2.0, "", 1, 1)]
)
def test_what_could_not_be_read_leaves_the_old_file_as_it_was(tmp_path, bad):
    path = tmp_path / "t"
    write(path, [Arrival(1.0, "old", 1, 1)])
    before = path.read_bytes()

    with pytest.raises(ConfigError, match="t:3: "):
        write(path, itertools.chain([Arrival(1.0, "a", 1, 1)], [bad]))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["t"]


def test_places_that_cannot_be_read_or_written_are_errors(tmp_path):
    with pytest.raises(ConfigError, match="nope cannot be read: No such file"):
        list(read(tmp_path / "nope"))
    with pytest.raises(ConfigError, match="t cannot be written: No such file"):
        write(tmp_path / "nope" / "t", [])
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="folder cannot be written: "):
        write(tmp_path / "folder", [])
    assert os.listdir(tmp_path) == ["folder"]


def written(folder, *records: dict):
    path = folder / "t"
    path.write_text("\n".join([HEADER, *map(json.dumps, records)]))
    return path
