"""`muxjax simulate`: who gets which requests on which devices, and what is told of it."""

from itertools import pairwise
from pathlib import Path

import pytest

from muxjax.__main__ import main
from muxjax.commands.problem import read_problem
from muxjax.commands.simulate import machine, route, together
from muxjax.errors import ConfigError
from muxjax.placement.cost import weight_bytes
from muxjax.placement.plan_file import write_placement
from muxjax.placement.problem import Placed, Placement, UnitPlan
from muxjax.workload import files
from muxjax.workload.trace import Arrival

PROBLEM = """
cluster: {chip: H200, nodes: 1, devices_per_node: 2}
models:
  - {name: a, shape: llama-3.2-1b, rate: 4, prompt_tokens: 50, output_tokens: 20}
  - {name: b, shape: llama-3.1-8b, rate: 1, prompt_tokens: 80, output_tokens: 10}
"""


def placed(model: str, *devices: int, rate_rps: float = 1.0) -> Placed:
    return Placed(model=model, rate_rps=rate_rps, devices=devices)


@pytest.fixture
def problem(tmp_path) -> Path:
    (tmp_path / "problem.yaml").write_text(PROBLEM)
    return tmp_path / "problem.yaml"


def write(tmp_path, *units: UnitPlan) -> str:
    write_placement(Placement(units=units), tmp_path / "placement.json")
    return str(tmp_path / "placement.json")


def test_llms_that_share_a_device_even_through_others_are_one_machine():
    unit = UnitPlan(devices=4, members=(placed("a", 0), placed("b", 2), placed("c", 1, 2), placed("d", 1), placed("e", 3)))
    assert [[one.model for one in members] for members in together(unit)] == [["a"], ["b", "c", "d"], ["e"]]


def test_the_cache_is_what_the_fullest_device_has_left(problem):
    asked = read_problem(problem)
    found = machine(asked, [placed("a", 0, 1), placed("b", 1)])
    chip, tps = asked.cluster.chip, {name: hosted.mesh.tp for name, hosted in found.hosted.items()}
    assert tps == {"a": 2, "b": 1}
    weights = sum(weight_bytes(hosted.spec, hosted.mesh) for hosted in found.hosted.values())
    assert found.cache_bytes == int(0.9 * chip.memory_bytes) - weights


def test_replicas_get_requests_in_proportion_to_their_rates(problem):
    asked = read_problem(problem)
    machines = [machine(asked, [placed("a", 0, rate_rps=3.0)]), machine(asked, [placed("a", 0, rate_rps=1.0)])]
    arrivals = [Arrival(float(i), "a", 10, 10) for i in range(40)]
    first, second = route(machines, arrivals)
    assert (len(first), len(second)) == (30, 10)
    assert sorted(first + second) == arrivals
    assert max(b.time_s - a.time_s for a, b in pairwise(second)) <= 4, "in turn, not one after the other"


def test_a_run_tells_of_each_model_and_of_all(problem, tmp_path, capsys):
    placement = write(tmp_path, UnitPlan(devices=1, members=(placed("a", 0, rate_rps=4.0), placed("b", 0))))
    assert main(["simulate", str(problem), placement, "--duration", "5", "--seed", "3"]) == 0
    said = capsys.readouterr().out.splitlines()
    asked = {line.split()[0]: [int(n) for n in line.split()[1:3]] for line in said[1:4]}
    assert list(asked) == ["a", "b", "all"]
    assert asked["all"] == [x + y for x, y in zip(asked["a"], asked["b"], strict=True)]
    assert 0 < asked["all"][1] <= asked["all"][0]
    assert any(line.startswith("tpot within its objective") for line in said)


def test_a_trace_is_replayed_to_its_end(problem, tmp_path, capsys):
    files.write(tmp_path / "t.jsonl", [Arrival(0.5 * i, "ab"[i % 2], 30, 5) for i in range(9)])
    placement = write(tmp_path, UnitPlan(devices=1, members=(placed("a", 0), placed("b", 0))))
    assert main(["simulate", str(problem), placement, "--trace", str(tmp_path / "t.jsonl"), "--serial"]) == 0
    assert capsys.readouterr().out.splitlines()[3].split()[:3] == ["all", "9", "9"]


def test_a_trace_for_another_model_and_a_bad_duration_are_refused(problem, tmp_path, capsys):
    placement = write(tmp_path, UnitPlan(devices=1, members=(placed("a", 0),)))
    assert main(["simulate", str(problem), placement]) == 2
    assert "the trace asks for model 'b', and the placement has a" in capsys.readouterr().err
    assert main(["simulate", str(problem), placement, "--duration", "nan"]) == 2
    assert "duration must be over 0" in capsys.readouterr().err


def test_weights_that_leave_no_cache_are_refused(tmp_path):
    (tmp_path / "p.yaml").write_text(PROBLEM.replace("H200", "A100").replace("llama-3.1-8b", "llama-65b"))
    with pytest.raises(ConfigError, match=r"the weights of b leave -[0-9]+ bytes"):
        machine(read_problem(tmp_path / "p.yaml"), [placed("b", 0)])
