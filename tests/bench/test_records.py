"""Runs are read as they were written, torn or not."""

import pytest

from muxjax.bench.records import RecordFile, Run, by_load, read_runs
from muxjax.errors import ConfigError
from tests.bench.kit import failed, record, run

FIRST, SECOND = run(record("a"), failed("b", 1.0)), run(record("a", 2.0), seed=1, complete=False)


def written(path, *runs: Run) -> None:
    with RecordFile(path) as file:
        for one in runs:
            for line in (one.begin, *one.records, *([one.end] if one.end else [])):
                file.write(line)


def test_runs_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "r.jsonl"
    written(path, FIRST)
    written(path, SECOND)
    assert read_runs(path) == [FIRST, SECOND]


def test_what_a_kill_tore_off_is_left_out_and_cut_off_before_more_is_written(tmp_path):
    path = tmp_path / "r.jsonl"
    killed = run(record("a"), record("b"), killed=True)
    written(path, FIRST, killed)
    path.write_bytes(path.read_bytes()[:-10])
    torn = run(*killed.records[:1], killed=True, demanded=2)
    assert read_runs(path) == [FIRST, torn]
    written(path, SECOND)
    assert read_runs(path) == [FIRST, torn, SECOND]


@pytest.mark.parametrize("text", [b'{"muxjax_bench":1', b""], ids=["torn", "empty"])
def test_a_file_without_a_whole_line_is_begun_anew(tmp_path, text):
    path = tmp_path / "r.jsonl"
    path.write_bytes(text)
    assert read_runs(path) == []
    written(path, FIRST)
    assert read_runs(path) == [FIRST]


def test_a_file_of_something_else_stays_as_it_is(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("what a user would miss")
    with pytest.raises(ConfigError, match="holds something else"):
        written(path, FIRST)
    assert path.read_text() == "what a user would miss"


@pytest.mark.parametrize(
    "line, said",
    [
        ('{"model":"a"}', "no line of a run"),
        ('{"ended_s":1}', "no line of a run"),
        ("{", "no line of a run"),
        ('{"muxjax_bench":"x"}', "no line of a run"),
    ],
)
def test_a_wrong_line_is_told_with_its_place(tmp_path, line, said):
    path = tmp_path / "r.jsonl"
    written(path, run(killed=True))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ConfigError, match=rf"r.jsonl:2: {said}"):
        read_runs(path)


def test_another_version_or_no_beginning_is_refused(tmp_path):
    path = tmp_path / "r.jsonl"
    written(path, FIRST)
    text = path.read_text()
    path.write_text(text.replace('"muxjax_bench":1', '"muxjax_bench":2'))
    with pytest.raises(ConfigError, match="must be 1, the version, got 2"):
        read_runs(path)
    path.write_text(text.partition("\n")[2])
    with pytest.raises(ConfigError, match=r"r\.jsonl:1: must be the beginning of a run"):
        read_runs(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_runs(tmp_path)


def test_runs_that_differ_in_their_seeds_alone_are_together():
    faster, other = run(scale=2.0), run(load={"rate": 3.0})
    assert by_load([FIRST, faster, SECOND, other]) == [[FIRST, SECOND], [faster], [other]]
