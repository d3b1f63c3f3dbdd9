"""MuxServe's comparison and ablations: each run changes what it names, and its numbers are what they say."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from muxjax.cost import roofline
from muxjax.cost.chip import MeshSpec
from muxjax.scheduler.policies import by_name
from muxjax.scheduler.view import StepPlan, View
from muxjax.simulate.sharing import SPATIAL
from muxjax.simulate.unit import simulate
from muxjax.workload.metrics import Served
from muxjax.workload.trace import Arrival
from scripts import results
from scripts.paper.ablation import VARIANTS, ablations
from scripts.paper.comparison import CAUSES, LANED, MUX, NAMES, SLOWER, SPATIAL_BLIND, TEMPORAL, Setting, Timing, arriving, numbers, problem
from scripts.paper.plots import Axes, bars, panels
from scripts.paper.tables import GRID, Key, gains, paper, spread

SETTING = Setting(alpha=2.1, rate_scale=1.0)


def test_a_gain_is_over_the_best_of_the_others():
    rps = {"spatial": 10.0, "temporal": 20.0, "mux": 30.0}
    found = {Key(*at, system): {"rps": value} for at in GRID for system, value in rps.items()}

    assert set(gains(found, lambda values: values["rps"]).values()) == {1.5}
    assert set(gains(found, lambda values: values["rps"], over=("spatial",)).values()) == {3.0}


def test_the_papers_gains_are_those_it_is_known_for():
    assert spread(gains(paper(), lambda values: values["rps"])) == "1.07 / **1.27** / 1.46"
    assert set(paper()) >= {Key(*at, system) for at in GRID for system in ("spatial", "temporal", "mux")}


def test_throughput_is_of_the_window_and_attainment_of_all():
    asked, timing = problem(SETTING), Timing(warm_s=10.0, arrive_s=20.0, end_s=30.0)
    arrivals = [Arrival(1.0, NAMES[0], 100, 10)] * 4
    ends = (9.0, 15.0, 20.0, 25.0)
    served = [Served(model=NAMES[0], prompt_tokens=100, output_tokens=10, arrival_s=1.0, first_s=2.0, end_s=end) for end in ends]

    found = numbers(asked, arrivals, served, timing)

    assert found["rps"] == 2 / 10
    assert found["paper_metric"] == pytest.approx(20 * 0.2 / 19)
    assert found["ended"][NAMES[0]] == 4 and found["attainment"]["latency"]["2"] == 0


def test_what_was_within_its_objective_when_the_run_ended_counts_neither_way():
    asked = problem(SETTING)
    arrivals = [Arrival(time, NAMES[0], 100, 1000) for time in (1.0, 2.0, 3.0, 80.0)]
    served = [Served(model=NAMES[0], prompt_tokens=100, output_tokens=1000, arrival_s=1.0, first_s=1.1, end_s=14.0)]

    def within(end_s: float) -> float:
        found = numbers(asked, arrivals, served, Timing(warm_s=0.0, arrive_s=81.0, end_s=end_s))
        return found["attainment"]["latency"]["3"]

    assert within(20.0) == 1.0
    assert within(90.0) == pytest.approx(1 / 3)
    assert within(900.0) == 1 / 4


def test_permuted_requests_are_as_many_but_of_other_models():
    permuted = next(system for system in CAUSES if system.permuted)
    rates = list(arriving(SETTING, MUX).values())
    found = arriving(SETTING, permuted)

    assert sorted(found.values()) == sorted(rates) and arriving(SETTING, MUX) == SETTING.rates
    assert [found[NAMES[i]] for i in (0, 1, 10, 18, 2)] == [rates[i] for i in (0, 1, 2, 10, 11)]


def test_every_cause_differs_from_its_system_in_one_thing():
    def fields(system) -> dict:
        return {name: getattr(system, name) for name in system.__dataclass_fields__ if name != "name"}

    bases = {system.name: fields(system) for system in (SPATIAL_BLIND, TEMPORAL, MUX, LANED)}
    for cause in (*CAUSES, *SLOWER):
        base = bases[cause.name.partition(", ")[0]]
        assert sum(fields(cause)[name] != value for name, value in base.items()) == 1


@pytest.mark.parametrize("tp", [1, 4])
def test_a_step_of_a_slower_device_takes_longer_by_its_speed(tp):
    whole, half = (problem(SETTING, speed) for speed in (1.0, 0.5))
    spec = whole.demands[0].spec
    one, other = (roofline.mixed(spec, MeshSpec(chip=asked.cluster.chips[0], tp=tp), 512, 256, 32, 9000).total_s for asked in (whole, half))

    assert other == pytest.approx(2 * one)


def test_steps_apart_hold_prompts_or_tokens():
    scenario = ablations(5.0, 0)[0].scenario
    mixed = {}
    for variant in ("", "prompts apart"):
        outcome = simulate(scenario, VARIANTS[variant](by_name("adbs")), SPATIAL, 0)
        mixed[variant] = sum(model.mixed_steps for model in outcome.stats.models)
        assert outcome.served

    assert mixed[""] > 0 and mixed["prompts apart"] == 0


def test_each_variant_of_quotas_changes_what_a_policy_sees_or_says():
    view = ablations(1.0, 0)[0].scenario.machine.unit().view(0.0)

    def say(view: View) -> StepPlan:
        return StepPlan(quotas={model.name: model.quota_blocks + model.floor_blocks for model in view.models})

    said = {variant: dict(VARIANTS[variant](say)(view).quotas) for variant in VARIANTS}

    assert said["prompts apart"] == said[""] == {model.name: model.quota_blocks + model.floor_blocks for model in view.models}
    assert said["quotas without floors"] == {model.name: model.quota_blocks for model in view.models} != said[""]
    assert said["fixed quotas"] == said["no quotas"] == {}
    seen = []
    VARIANTS["no quotas"](lambda view: seen.extend(view.models) or StepPlan())(view)
    assert {model.quota_blocks for model in seen} == {view.total_blocks}


def test_a_plot_has_every_system_and_label_and_is_the_same_again(tmp_path):
    lines = {"spatial": [(1.0, 2.0), (2.0, 3.0)], "mux": [(1.0, 4.0), (2.0, 5.0)], "temporal": []}
    texts = []
    for name in ("one.svg", "two.svg"):
        panels(tmp_path / name, {"requests/s": [lines, {}]}, ["left", "right"], Axes(x_label="rate"))
        texts.append((tmp_path / name).read_text())

    assert texts[0] == texts[1]
    assert all(f">{text}<" in texts[0] for text in ("spatial", "mux", "requests/s", "left", "right", "rate"))

    bars(tmp_path / "bars.svg", {"shape": {"paper": {"adbs": 6.2, "fcfs": 3.8}}}, "requests/s")
    assert all(f">{text}<" in (tmp_path / "bars.svg").read_text() for text in ("adbs", "fcfs", "6.2", "3.8", "paper", "shape"))


def test_a_quick_run_serves_with_every_system_and_policy(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "scripts.paper.shape", "--quick", "--processes", "1"],
        cwd=results.ROOT,
        env=os.environ | {"MUXJAX_RESULTS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    records = [json.loads(line) for line in ran.stdout.splitlines()]
    names = Counter(record["config"].get("system", record["config"]["policy"]) for record in records)
    assert names == {"spatial": 1, "spatial, aware": 1, "temporal": 1, "mux": 1, "lanes": 1, "adbs": 2, "round_robin": 1, "fcfs": 1}
    assert all(0 < record["values"]["jain"] <= 1 for record in records)
    assert not list(tmp_path.iterdir())
