"""The page of colocation sums up the last file alone, with a column for each way that is held to the goals."""

from typing import Any

import pytest

from scripts.colocation.page import highest, page
from scripts.colocation.ways import MODELS, RISING


def run(way: str, load: str, *, commit: str = "new", **more: Any) -> dict[str, Any]:
    percentiles = {"p50": 0.02, "p99": 0.08}
    model = {"tpot_s": {"p50": 0.005}, "gap_s": {"p99": 0.03}}
    values = {"requests_per_s": 80.0, "tokens_per_s": 1000.0, "ttft_s": percentiles, "attainment": 0.995, "padding": 0.1, "steps": {}}
    values |= {"models": dict.fromkeys(MODELS, model)} | more
    return {"commit": commit, "device": "H200", "config": {"way": way, "load": load, "slots": 512}, "values": values}


def rising(way: str, *attainments: float) -> list[dict[str, Any]]:
    tried = zip(RISING, attainments, strict=False)
    return [run(way, load, asked_per_s=100 * float(load[1:]), attainment=attainment) for load, attainment in tried]


def lines(text: str, begin: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(begin)]


def test_only_the_last_file_and_its_last_commit_are_summed_up():
    old = [run("mux", "x3", requests_per_s=999.0), run("turns", "x1")]
    text = page([old, [run("mux", "x1", commit="old"), run("mux", "x3", requests_per_s=150.0)]])
    summary, _, sections = text.partition("\n## ")

    assert lines(summary, "| x3: requests/s") == ["| x3: requests/s | >= 140 | 150, met |"]
    assert "x1: TTFT" not in summary
    assert "| 999.0 |" in sections and sections.count("| mux | H200 | old | 512 |") == 1


def test_each_way_that_ran_has_a_column_and_what_it_lacks_is_empty():
    own = [run("shares", "decodes", tokens_per_s=1100.0), run("mux", "decodes", tokens_per_s=1200.0), run("mux", "x1")]
    text = page([[run("turns", "decodes"), *own]])

    assert lines(text, "| what") == ["| what | goal | mux | shares |"]
    assert lines(text, "| decode beside") == ["| decode beside decode, tokens/s of turns | >= 1.15 x | 1.2 x, met | 1.1 x, missed |"]
    assert lines(text, "| x1: TTFT") == ["| x1: TTFT p50 / p99 | <= 30 / 90 ms | 20 / 80 ms, met |  |"]


def test_without_turns_no_ratio_is_told_and_without_a_way_that_is_judged_no_goal():
    assert "of turns |" not in page([[run("mux", "decodes")]])
    assert "| goal |" not in page([[run("turns", "decodes")]])


def test_the_highest_rate_is_that_of_the_largest_scale_within_target_and_held_against_turns():
    text = page([[*rising("turns", 0.995, 0.9), *rising("mux", 1.0, 1.0, 0.99, 0.98), *rising("shares", 0.5)]])

    (told,) = lines(text, "| highest")
    assert told.endswith("| >= 1.3 x | 1.07 x, missed |  |")  # 150 against 140, which turns no longer bear
    rates = ["| turns | 125 | 140 |", "| mux | 150 | 165 |", "| shares |  | 125 |"]
    assert all(line in text for line in rates)


@pytest.mark.parametrize(("loads", "rate"), [({}, 90.0), ({"x1.50": 0.5}, 90.0), ({"x1.50": 0.99}, 150.0)])
def test_the_load_x1_is_the_lowest_that_may_be_the_highest_where_more_was_tried(loads, rate):
    tried = {load: {"asked_per_s": 100 * float(load[1:]), "attainment": attainment} for load, attainment in loads.items()}

    assert highest({"x1": {"asked_per_s": 90.0, "attainment": 1.0}, **tried}) == (rate if loads else None)
