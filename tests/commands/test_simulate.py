"""`muxjax simulate`: who gets which requests on which devices, and what is told of it."""

import json
from pathlib import Path

import pytest

from muxjax.__main__ import main
from muxjax.placement.plan_file import write_placement
from muxjax.placement.problem import Placement, UnitPlan
from muxjax.workload import files
from muxjax.workload.trace import Arrival
from tests.two_models import placed, write_problem


@pytest.fixture
def problem(tmp_path) -> Path:
    return write_problem(tmp_path)


def write(tmp_path, *units: UnitPlan) -> str:
    write_placement(Placement(units=units), tmp_path / "placement.json")
    return str(tmp_path / "placement.json")


def test_a_run_tells_of_each_model_and_of_all(problem, tmp_path, capsys):
    placement = write(tmp_path, UnitPlan(devices=1, members=(placed("a", 0, rate_rps=4.0), placed("b", 0))))
    assert main(["simulate", str(problem), placement, "--duration", "5", "--seed", "3"]) == 0
    said = capsys.readouterr().out.splitlines()
    asked = {line.split()[0]: [int(n) for n in line.split()[1:3]] for line in said[1:4]}
    assert list(asked) == ["a", "b", "all"]
    assert asked["all"] == [x + y for x, y in zip(asked["a"], asked["b"], strict=True)]
    assert 0 < asked["all"][1] <= asked["all"][0]
    assert any(line.startswith("time per token within multiples of what a request takes alone: ") for line in said)
    assert any(line.startswith("cache of a, b: ") for line in said)


def test_a_trace_is_replayed_to_its_end(problem, tmp_path, capsys):
    files.write(tmp_path / "t.jsonl", [Arrival(0.5 * i, "ab"[i % 2], 30, 5) for i in range(9)])
    placement = write(tmp_path, UnitPlan(devices=1, members=(placed("a", 0), placed("b", 0))))
    assert main(["simulate", str(problem), placement, "--trace", str(tmp_path / "t.jsonl"), "--lanes", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[3].split()[:3] == ["all", "9", "9"]


def test_a_trace_for_another_model_is_refused(problem, tmp_path, capsys):
    placement = write(tmp_path, UnitPlan(devices=1, members=(placed("a", 0),)))
    assert main(["simulate", str(problem), placement]) == 2
    assert "the trace asks for model 'b', and the placement has a; --rename OLD=NEW" in capsys.readouterr().err


@pytest.fixture
def asked(problem, tmp_path) -> list[str]:
    placement = write(tmp_path, UnitPlan(devices=1, members=(placed("a", 0), placed("b", 0))))
    return ["simulate", str(problem), placement]


def test_all_metrics_and_a_picture_are_written(asked, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="pictures need the extra plot")
    wanted = [tmp_path / name for name in ("o.json", "o.svg", "o.png")]
    for picture in wanted[1:]:
        assert main([*asked, "--duration", "5", "--json", str(wanted[0]), "--plot", str(picture)]) == 0
    found = json.loads(wanted[0].read_text())
    assert found["demanded"] == sum(model["demanded"] for model in found["models"].values()) > found["served"] - 1
    assert {"rps", "weighted_rps", "output_tokens_per_s", "fairness", "ttft_s", "tpot_s", "latency_s", "units"} < set(found)
    assert set(found["attainment"]["latency"]) == {str(scale) for scale in range(2, 21)}
    assert wanted[1].read_text().startswith("<?xml") and wanted[2].read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["o.json", "o.png", "o.svg", "placement.json", "problem.yaml"])


def test_the_same_seed_writes_the_same_file_and_another_policy_another(asked, tmp_path):
    texts = []
    for policy in ("temporal", "fcfs", "round_robin"):
        assert main([*asked, "--duration", "5", "--policy", policy, "--rate-scale", "8", "--json", str(tmp_path / "o.json")]) == 0
        found = json.loads((tmp_path / "o.json").read_text())
        del found["options"]
        texts.append(found)
    assert texts[0] == texts[1] != texts[2]


def test_public_traces_are_replayed_under_other_names(asked, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6,20,4\n2023-11-16 18:15:47.0,30,4\n")
    assert main([*asked, "--trace", str(tmp_path / "t.csv"), "--format", "azure", "--rename", "azure=a"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["a", "2", "2"]


def test_the_goodput_is_a_rate_that_is_good_just_below_one_that_is_not(asked, tmp_path, capsys):
    assert main([*asked, "--duration", "2", "--goodput", "0.9", "--slo-scale", "1.5", "--json", str(tmp_path / "o.json")]) == 0
    found = json.loads((tmp_path / "o.json").read_text())["goodput"]
    good = {float(scale) for scale, share in found["tried"].items() if share >= 0.9}
    bad = {float(scale) for scale in found["tried"]} - {*good}
    assert max(good) == pytest.approx(found["rate_scale"], rel=1e-4) and max(good) < min(bad) <= 1.03 * max(good)
    assert "goodput: " in capsys.readouterr().out and found["rps"] > 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--duration", "nan"], "duration_s must be over 0, to 1e+09, got nan"),
        (["--rate-scale", "-1"], "rate_scale must be 1e-06 to 1e+06, got -1.0"),
        (["--drain", "-1"], "drain_s must be 0 to 1e+09, got -1.0"),
        (["--seed", "-1"], "seed must be 0 or more, got -1"),
        (["--policy", "best"], "policy must be one of adbs, mux, round_robin, fcfs, got 'best'"),
        (["--goodput", "1.5"], "goodput must be over 0, to 1, got 1.5"),
        (["--max-model-len", "1"], "max_model_len must be 2 to 1048576, got 1"),
        (["--workload", "nobody"], "workload must be one of lmsys-16"),
        (["--duration", "1e-9"], "duration_s must be so long that a request comes: "),
        (["--rename", "a"], "rename must be OLD=NEW, got 'a'"),
        (["--plot", "o.pdf"], "plot must be a file that ends in .png or .svg, got 'o.pdf'"),
        (["--json", "nowhere/o.json"], "json must be in a folder that exists, got 'nowhere/o.json'"),
        (["--trace", "none.jsonl"], "none.jsonl cannot be read"),
        (["--trace", "none.jsonl", "--format", "xml"], "format must be one of muxjax, azure, burst-gpt, mooncake, got 'xml'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(asked, tmp_path, capsys, flags, message):
    before = sorted(tmp_path.iterdir())
    assert main([*asked, "--json", str(tmp_path / "o.json"), *flags]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and not said.out
    assert sorted(tmp_path.iterdir()) == before


def test_a_trace_without_requests_is_refused(asked, tmp_path, capsys):
    files.write(tmp_path / "t.jsonl", [])
    assert main([*asked, "--trace", str(tmp_path / "t.jsonl")]) == 2
    assert "trace must be at least one request, got 'none'" in capsys.readouterr().err


def test_without_matplotlib_the_extra_is_named(asked, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("muxjax.workload.plots.find_spec", lambda name: None)
    assert main([*asked, "--plot", str(tmp_path / "o.png")]) == 2
    assert "pip install 'muxjax[plot]'" in capsys.readouterr().err
