"""Who gets which requests on which devices, and processes that simulate units side by side."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from muxjax.commands.problem_file import read_problem
from muxjax.cost.roofline import weight_bytes
from muxjax.errors import ConfigError
from muxjax.placement.problem import Placed, Placement, UnitPlan
from muxjax.simulate import cluster
from muxjax.simulate.cluster import check, machine, outcomes, route, split, together
from muxjax.simulate.sharing import SPATIAL
from muxjax.workload.trace import Arrival
from tests.two_models import PROBLEM, placed, write_problem


@pytest.fixture
def problem(tmp_path) -> Path:
    return write_problem(tmp_path)


def test_llms_that_share_a_device_even_through_others_are_one_machine():
    unit = UnitPlan(devices=4, members=(placed("a", 0), placed("b", 2), placed("c", 1, 2), placed("d", 1), placed("e", 3)))
    assert [[one.model for one in members] for members in together(unit)] == [["a"], ["b", "c", "d"], ["e"]]


def test_the_cache_is_what_the_fullest_device_has_left(problem):
    asked = read_problem(problem)
    found = machine(asked, [placed("a", 0, 1), placed("b", 1)])
    chip, tps = asked.cluster.chips[0], {name: hosted.mesh.tp for name, hosted in found.hosted.items()}
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


def test_weights_that_leave_no_cache_are_refused(tmp_path):
    (tmp_path / "p.yaml").write_text(PROBLEM.replace("H200", "A100").replace("llama-3.1-8b", "llama-65b"))
    with pytest.raises(ConfigError, match=r"the weights of b leave -[0-9]+ bytes"):
        machine(read_problem(tmp_path / "p.yaml"), [placed("b", 0)])


def one_device(*members: Placed) -> UnitPlan:
    return UnitPlan(devices=1, members=members)


def test_processes_side_by_side_find_what_one_alone_does(problem, monkeypatch, capsys):
    placement = Placement(units=(one_device(placed("a", 0)), one_device(placed("b", 0))))
    arrivals = [Arrival(0.05 * i, "ab"[i % 2], 30, 5) for i in range(60)]
    jobs = list(split(read_problem(problem), placement, arrivals, "adbs", SPATIAL, 60.0))
    alone = outcomes(jobs)
    assert capsys.readouterr().err == "simulating: 60\n"  # nobody looks at a terminal
    monkeypatch.setattr(cluster, "FEW", 0)
    assert outcomes(jobs, processes=2) == alone and [len(one.served) for one in alone] == [30, 30]


def test_a_request_that_is_too_long_is_cut_and_counted_and_one_that_never_fits_is_not_served(problem):
    placement = Placement(units=(one_device(placed("a", 0)),))
    arrivals = [Arrival(0.0, "a", 90, 30), Arrival(0.0, "a", 20, 10)]
    (job,) = split(read_problem(problem), placement, arrivals, "adbs", SPATIAL, 60.0, max_tokens=100)
    (found,) = outcomes([job])
    assert found.shortened == 1
    assert sorted((one.prompt_tokens, one.output_tokens) for one in found.served) == [(20, 10), (90, 10)]
    small = outcomes([replace(job, machine=replace(job.machine, cache_bytes=16 * 8 * 2**14))])[0]  # a column: 64 tokens
    assert [one.prompt_tokens for one in small.served] == [20] and small.demanded == {"a": 2}
    assert small.cache_peak_frac == 1.0 and 0 < small.cache_mean_frac <= 1.0


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ((), "units must be units with at least one model, got 0"),
        ((one_device(placed("z", 0)),), "model must be one of a, b, got 'z'"),
        ((one_device(placed("a", 0, rate_rps=-1.0)),), r"a.rate_rps must be over 0, to 1e\+09, got -1.0"),
        ((one_device(placed("a", 0, 1)),), r"a is on devices \[0, 1\], which must be different ones of 0 to 0"),
        ((UnitPlan(devices=4, members=(placed("a", 0),)),), "a mesh of 4 devices"),
    ],
)
def test_a_placement_that_cannot_be_served_is_refused(problem, units, message):
    with pytest.raises(ConfigError, match=message):
        check(read_problem(problem), Placement(units=units))


def test_a_placement_for_other_rates_and_fewer_models_is_served(problem):
    check(read_problem(problem), Placement(units=(one_device(placed("a", 0, rate_rps=99.0)),)))
