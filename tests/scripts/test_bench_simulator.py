"""The page on the simulator's truth says how far each figure is from what was measured."""

import json

import pytest

from muxjax.engine.job_records import JobRecord
from muxjax.workload.metrics import Served
from scripts import results
from scripts.bench_simulator import (
    COMPARED,
    LOADS,
    QUESTION,
    SEEDS,
    WARM_S,
    Run,
    figures,
    made,
    read_measured,
    recorded,
    runs,
    simulate,
    take,
)
from scripts.colocation.truth import FIGURES, GOAL, POLICY_FIGURES, compared, interval, page, verdict

STEPS = {"8b decode": {"steps": 200, "seconds": 0.01}, "1b mixed": {"steps": 50, "seconds": 0.02}}


def lines(rate: float) -> list[dict]:
    """A line of each run, requests a second by the seed."""
    return [
        {
            "config": {"part": run.part, "way": run.way, "load": run.load},
            "seed": run.seed,
            "values": dict.fromkeys((*FIGURES, *POLICY_FIGURES), 1.0) | {"requests_per_s": rate * run.seed, "steps": STEPS},
        }
        for run in runs()
    ]


def truth(rate: float) -> dict:
    found = [
        {"way": way, "load": load, "values": dict.fromkeys(FIGURES, 1.0) | {"requests_per_s": rate, "steps": STEPS}}
        for load in LOADS
        for way in ("turns", "mux", "mux")
    ]
    return {"commit": "abc", "device": "NVIDIA H200", "runs": found}


def test_an_error_is_of_the_same_requests_and_of_the_mean_of_what_was_measured_twice():
    measured = truth(90.0)
    measured["runs"][-1]["values"]["tpot_8b_s"] = 3.0
    own = lines(99.0)

    (line,) = compared(own, measured, "mux", "x1", ["requests_per_s"])
    assert line[3:6] == pytest.approx((90.0, 99.0, 0.1))
    assert line[6] == [99.0 * seed for seed in SEEDS[1:]]
    (line,) = compared(own, measured, "mux", "long prompts", ["tpot_8b_s"])
    assert line[3:6] == pytest.approx((2.0, 1.0, -0.5)) and line[6] == []


def test_a_verdict_counts_the_figures_that_are_near():
    near, far = (("turns", "x1", "what", 1.0, 1.0 + error, error, []) for error in (GOAL, GOAL + 0.001))

    assert verdict([near, far, near]) == "**2 of 3 figures are within 10%.**"


def test_an_interval_is_students():
    assert interval([1.0, 2.0, 3.0, 4.0]) == "2.5 ± 2.1"  # 3.18 x 1.291 / 2


def test_the_page_tells_of_every_part():
    text = page(lines(99.0), truth(90.0))

    assert "| turns | x1 | requests_per_s | 90 | 99 | +10.0% |" in text
    assert "| x3 | 8b decode | 200 | 200 | 10.00 | 10.00 | +0.0% |" in text and "1b mixed" not in text
    assert all(f"| {way} |" in text for way in COMPARED)
    assert "rows_per_s +0.0% ± 0.0%" in text


def test_the_page_in_the_tree_is_made_of_its_lines():
    written = (results.ROOT / "docs" / "results" / QUESTION / "README.md").read_text().strip()

    assert written == page(results.read_runs(QUESTION), read_measured()).strip()


def test_lines_of_other_options_are_not_taken():
    line = next(line for line in results.read_runs("colocation") if (line["config"]["way"], line["config"]["load"]) == ("mux", "x1"))
    others = [line | {"seed": 7}, line | {"config": line["config"] | {"slots": 256}}, line | {"config": line["config"] | {"way": "lanes"}}]

    assert [run["values"] for run in take([*others, line])["runs"]] == [recorded(line["values"])]


def served(end_s: float, **times: float) -> Served:
    request = {"model": "8b", "prompt_tokens": 10, "output_tokens": 11, "arrival_s": 0.0, "first_s": 0.5, "end_s": end_s}
    return Served(**(request | times))


def test_figures_are_those_of_the_users():
    found = figures([served(1.0), served(2.0, first_s=1.5)], 0.0)

    assert found["requests_per_s"] == 1.0 and found["tokens_per_s"] == 11.0
    assert found["tpot_8b_s"] == pytest.approx(0.05) and "tpot_1b_s" not in found
    assert found["attainment"] == 0.5


def test_the_first_seconds_of_an_overload_do_not_count():
    assert figures([served(WARM_S + 1.0), served(WARM_S + 2.0)], WARM_S)["requests_per_s"] == 1.0


def test_tokens_that_steps_make_are_told_from_those_of_prompts():
    times = {"start_s": 0.0, "end_s": 1.0, "prefills": ()}
    jobs = [
        JobRecord(model="8b", phase="decode", rows=4, tokens=4, **times),
        JobRecord(model="8b", phase="mixed", rows=3, tokens=202, **times),
    ]

    assert made(jobs, 2.0) == {"rows_per_s": 3.5, "prompt_tokens_per_s": 99.5}


def test_a_run_is_simulated_from_the_benchs_requests():
    record = simulate(Run(part="recorded", way="mux", load="long prompts", seed=1))

    assert json.loads(json.dumps(record)) == record
    assert record["values"]["steps"]["1b decode"]["steps"] > 1000
    assert record["values"]["attainment"] > 0.9
