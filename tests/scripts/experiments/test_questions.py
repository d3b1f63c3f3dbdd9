"""Experiments: every question can be asked, its twin runs, and its page is what its lines say."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from muxjax.bench.backends.known import backend_of
from muxjax.commands.bench.fleet import fleet_of
from muxjax.workload.load import Load
from scripts import results
from scripts.bench_systems import main
from scripts.experiments.measure import arrivals, unit_of
from scripts.experiments.page import page
from scripts.experiments.questions import BY_NAME
from scripts.experiments.section import section
from scripts.experiments.verdicts import highest_rps, shared, verdicts

MEASURED = [name for name in BY_NAME if (results.ROOT / "docs" / "results" / name / "runs.jsonl").exists()]


@pytest.mark.parametrize("name", BY_NAME)
def test_every_question_and_its_twin_can_be_asked(name, tmp_path):
    for question in (BY_NAME[name], BY_NAME[name].twin):
        work = tmp_path / str(question.dummy)
        work.mkdir()
        requests = arrivals(replace(question, duration_s=2.0), 1)
        fleet = fleet_of(unit_of(question, work), Load(arrivals=requests, window_s=2.0), 140 * 2**30)
        assert set(fleet.names) == set(question.models) >= {one.model for one in requests}
        assert [backend_of(backend).name for backend in question.backends]
        if question.at_once is not None:
            assert len(arrivals(question, 1)) == question.at_once and {one.time_s for one in requests} == {0.0}


def test_a_twin_is_measured_and_told_from_end_to_end(tmp_path):
    command = [
        sys.executable,
        "-m",
        "scripts.bench_systems",
        "one-model",
        "--tiny",
        "--backends",
        "mux",
        "--scales",
        "0.5",
        "--seeds",
        "1",
        "2",
    ]
    told = subprocess.run(command, cwd=results.ROOT, capture_output=True, text=True, timeout=300)
    assert told.returncode == 0, told.stderr
    assert "**mux**: " in told.stdout and "seeds 1, 2" in told.stdout
    (row,) = [row for row in told.stdout.splitlines() if row.startswith("| mux |")]
    assert re.search(r"\d% \([\d.]+% to [\d.]+%\)", row), row  # how many were within target is the machine's business


@pytest.mark.parametrize(
    ("flag", "value", "said"), [("--backends", "vlm", "backends must be of"), ("--scales", "0", "rate_scales must be")]
)
def test_what_cannot_be_measured_is_said_in_a_line(monkeypatch, flag, value, said):
    monkeypatch.setattr(sys, "argv", ["bench_systems", "one-model", "--tiny", flag, value])
    with pytest.raises(SystemExit, match=f"^bench_systems: {said}"):
        main()


@pytest.mark.parametrize("name", MEASURED)
def test_a_page_is_made_of_its_lines(name):
    lines = results.read_runs(name)
    text = (results.ROOT / "docs" / "results" / name / "README.md").read_text()
    assert text.partition("\n\n![")[0].strip() == page(BY_NAME[name], lines).strip()


def test_the_systems_of_the_readme_are_what_the_measurements_say():
    readme = (results.ROOT / "README.md").read_text()
    assert readme.partition("<!-- systems -->\n")[2].partition("<!-- end of systems -->")[0].strip() == section().strip()


def line(backend: str, scale: float, attainment: float, tpot_ms: float = 5.0, **values) -> dict:
    found = {"attainment": attainment, "rates": {"a": 10.0 * scale}, "median_tpot_ms": tpot_ms, "median_ttft_ms": 20.0}
    return {"config": {"backend": backend, "scale": scale}, "values": found | values}


def test_the_highest_rate_is_the_last_before_the_first_that_is_too_high():
    lines = [line("mux", scale, share) for scale, share in ((1, 1.0), (2, 0.99), (3, 0.98), (4, 1.0))]
    assert highest_rps(lines) == 20.0 and highest_rps(lines[2:]) == 0.0


def test_systems_are_held_against_each_other_at_the_highest_rate_of_both():
    own, others = [line("mux", 1, 1.0), line("mux", 2, 1.0)], [line("turns", 1, 0.5, tpot_ms=15.0)]
    assert [one["config"]["scale"] for one in shared(own, others)] == [1, 1]
    told = list(verdicts(BY_NAME["three-models"], {"mux": own, "turns": others}))
    assert told[0] == "**mux**: at least 20 requests/s with 99% within target"
    assert told[1] == "**turns**: 99% within target at no rate, from 10 on"
    assert "TPOT p50 15 ms for 5 ms, 3.00 times" in told[2]
