"""`muxjax place`, from a file to a file, and what it says of bad ones."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tqdm import tqdm

from muxjax.__main__ import main
from muxjax.commands.place import BASELINES
from muxjax.commands.problem_file import read_problem
from muxjax.cost.chip import H100
from muxjax.cost.measured import costs_of
from muxjax.cost.roofline import kv_bytes_per_token, weight_bytes
from muxjax.cost.table import CostTable, Row, Shape, write_table
from muxjax.engine.options import ModelOptions
from muxjax.errors import ConfigError
from muxjax.placement.explain import Reason, reasons
from muxjax.placement.goals import GOALS
from muxjax.placement.plan_file import read_placement, write_placement
from muxjax.placement.problem import Placed, Placement, UnitPlan
from muxjax.placement.search_space import search_space
from muxjax.specs.published import BY_NAME

FARM = Path(__file__).parents[2] / "muxjax/demo/data/farm"
PROBLEM = """
cluster: {chip: H200, nodes: 1, devices_per_node: 4}
models:
  - {name: chat, shape: llama-3.1-8b, rate: 12}
  - {name: small, shape: llama-3.2-1b, rate: 40, prompt_tokens: 100, output-tokens: 50}
  - {name: big, shape: llama-65b, rate: 1, tpot: 0.05}
"""


def write(tmp_path, text: str):
    path = tmp_path / "problem.yaml"
    path.write_text(text)
    return path


def test_a_placement_is_told_and_written(tmp_path, capsys):
    out = tmp_path / "placement.json"
    assert main(["place", str(write(tmp_path, PROBLEM)), "-o", str(out), "--explain"]) == 0
    placement = read_placement(out)
    placed = [placed.model for unit in placement.units for placed in unit.members]
    assert {*placed} == {"big", "chat", "small"}
    said = capsys.readouterr().out
    assert all(f"{name} is in unit" in said for name in ("chat", "small", "big"))
    assert sum(line.startswith(("0 ", "1 ", "2 ", "3 ")) for line in said.splitlines()) == len(placed)


def test_a_placement_in_json_is_the_file_and_what_it_serves(tmp_path, capsys):
    problem, out, printed = (
        write(tmp_path, PROBLEM.replace("rate: 12", "rate: 5000")),
        tmp_path / "placement.json",
        tmp_path / "printed.json",
    )
    assert main(["place", str(problem), "--json", "-o", str(out)]) == 0
    printed.write_text(capsys.readouterr().out)
    told = json.loads(printed.read_text())

    assert read_placement(printed) == read_placement(out)
    assert told["demand_rps"] == 5041 and told["models"]["chat"]["demand_rps"] == 5000
    assert sum(model["throughput_rps"] for model in told["models"].values()) == pytest.approx(told["throughput_rps"])
    assert told["throughput_rps"] < 5041 and told["complete"] and told["growth"] == 1


def test_json_has_no_reasons(tmp_path, capsys):
    assert main(["place", str(write(tmp_path, PROBLEM)), "--json", "--explain"]) == 2
    assert "explain must be left out with --json" in capsys.readouterr().err


def test_a_chip_of_ones_own_is_like_another_but_for_what_is_told(tmp_path):
    chips = "chips:\n  own-1: {like: H100, memory_bytes: 48GiB, memory-bytes-per-s: 864e9}\n"
    problem = read_problem(write(tmp_path, chips + PROBLEM.replace("chip: H200", "chip: own-1")))

    assert problem.cluster.chips[0] == replace(H100, name="own-1", memory_bytes=48 * 2**30, memory_bytes_per_s=864e9)


def test_targets_that_are_missed_and_answers_that_are_cut_are_told(tmp_path, capsys):
    text = PROBLEM.replace("tpot: 0.05", "tpot: 0.0001, prompt_tokens: 1900, output_tokens: 300")
    assert main(["place", str(write(tmp_path, text))]) == 0
    said = capsys.readouterr().out
    assert "the mean request is longer than the context, where answers are cut: big\n" in said
    assert re.search(r"targets are missed: big time per token \d[\d.]* ms of 100 us\n", said)
    assert main(["place", str(write(tmp_path, text)), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["models"]["big"]["goodput_rps"] == 0 < told["models"]["big"]["throughput_rps"]
    assert told["goodput_rps"] == pytest.approx(told["throughput_rps"] - told["models"]["big"]["throughput_rps"])


@pytest.mark.parametrize("name", ["memory-greedy", "spatial-blind", "spatial-aware"])
def test_a_baseline_places_in_the_place_of_the_search(tmp_path, capsys, name):
    out = tmp_path / "placement.json"
    assert main(["place", str(write(tmp_path, PROBLEM)), "--baseline", name, "-o", str(out)]) == 0
    assert f"placed by {name}" in capsys.readouterr().out
    problem = read_problem(tmp_path / "problem.yaml")
    expected = BASELINES[name](problem, *search_space(problem, costs_of(problem.cluster.chips)))
    assert read_placement(out) == expected


def test_an_unknown_baseline_is_told_with_the_known_ones(tmp_path, capsys):
    assert main(["place", str(write(tmp_path, PROBLEM)), "--baseline", "best"]) == 2
    assert "baseline must be one of memory-greedy, spatial-blind, spatial-aware, got 'best'" in capsys.readouterr().err


def test_the_problem_of_the_manual_is_placed_whole(tmp_path, capsys):
    manual = (Path(__file__).parents[2] / "docs" / "placement.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", manual, re.DOTALL)
    assert main(["place", str(write(tmp_path, text)), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["goodput_rps"] == pytest.approx(told["demand_rps"]) == 16.5
    assert all(f"`{name}`" in manual for name in GOALS)
    assert {*re.findall(r"^\| (`.*?) \|", manual, re.MULTILINE)} >= {"`ttft`, `tpot`", "`weight`", "`weights`, `cache`"}


def test_the_fewest_devices_are_told_and_used(tmp_path, capsys):
    assert main(["place", str(write(tmp_path, "objective: fewest-devices\n" + PROBLEM)), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["devices"] < 4 and told["goodput_rps"] == pytest.approx(53)


def test_a_cluster_of_several_kinds_is_told_by_kind_and_price(tmp_path, capsys):
    kinds = ("{chip: H200, nodes: 1, devices_per_node: 2, price: 3.5}", "{chip: A100, nodes: 1, devices_per_node: 4, price: 1.25}")
    text = PROBLEM.replace("cluster: {chip: H200, nodes: 1, devices_per_node: 4}", "cluster: [" + ", ".join(kinds) + "]")
    assert main(["place", str(write(tmp_path, text)), "-o", str(tmp_path / "p.json")]) == 0
    told = capsys.readouterr().out
    assert "2 of 2 H200 and 4 of 4 A100-80GB, price 12 of 12" in told and "4 A100-80GB" in told
    assert read_placement(tmp_path / "p.json").chips == ("H200", "A100-80GB")
    assert main(["place", str(write(tmp_path, "objective: least-cost\n" + text)), "--json"]) == 0
    cheap = json.loads(capsys.readouterr().out)
    assert cheap["goodput_rps"] == pytest.approx(53) and cheap["price"] < 12


def test_least_cost_needs_the_price_of_all_kinds_or_of_none(tmp_path, capsys):
    kinds = "[{chip: H200, nodes: 1, devices_per_node: 2, price: 3}, {chip: H200, nodes: 1, devices_per_node: 2}]"
    text = "objective: least-cost\n" + PROBLEM.replace("{chip: H200, nodes: 1, devices_per_node: 4}", kinds)
    assert main(["place", str(write(tmp_path, text))]) == 2
    assert "needs the price of each kind" in capsys.readouterr().err
    assert main(["place", str(write(tmp_path, text.replace(", price: 3", "")))]) == 0


def test_devices_have_numbers_of_the_whole_cluster(tmp_path, capsys):
    text = PROBLEM.replace("nodes: 1", "nodes: 2").replace("rate: 12", "rate: 500")
    assert main(["place", str(write(tmp_path, text)), "-o", str(tmp_path / "p.json")]) == 0
    units = read_placement(tmp_path / "p.json").units
    numbers = [(unit.first_device or 0) + device for unit in units for device in range(unit.devices)]
    assert len(set(numbers)) == len(numbers) and max(numbers) == 7
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[4] == ",".join(map(str, units[0].numbers(units[0].members[0])))


def test_measured_costs_decide_where_they_are_given(tmp_path, capsys):
    """On devices that take a second for any step of it, the chatting model serves next to nothing."""
    spec = BY_NAME["llama-3.1-8b"]
    points = [(phase, tp, count) for phase in ("prefill", "decode") for tp in (1, 2, 4) for count in (1, 256)]
    rows = tuple(Row(model="8b", phase=phase, tp=tp, count=count, context=512.0, seconds=1.0) for phase, tp, count in points)
    table = CostTable(device="NVIDIA H200", versions={}, commits=("abc",), shapes={"8b": Shape.of(spec)}, rows=rows)
    write_table(table, tmp_path / "costs.json")
    served = []
    for given in ([], ["--costs", str(tmp_path / "costs.json")]):
        assert main(["place", str(write(tmp_path, PROBLEM)), *given]) == 0
        served.append(float(capsys.readouterr().out.split(" requests/s;")[0].splitlines()[-1].split()[0]))

    assert served[0] == 53 and served[1] < 45


def test_a_problem_says_what_its_file_says(tmp_path):
    problem = read_problem(write(tmp_path, PROBLEM))
    small, big = problem.demand("small"), problem.demand("big")
    assert (small.rate_rps, small.prompt_tokens, small.output_tokens, small.tpot_s) == (40.0, 100.0, 50.0, None)
    assert big.tpot_s == 0.05 and big.output_tokens > 50
    assert problem.cluster.devices == 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rate: 12", "rate: 0", r"problem\.yaml:4: rate must be over 0, to 100000, got 0\.0"),
        ("rate: 12", "rate: .nan", r"problem\.yaml:4: rate must be a number, got nan"),
        (", rate: 12", "", r"problem\.yaml:4: .*needs rate too"),
        ("shape: llama-65b", "shape: llama", r"problem\.yaml:6: shape must be one of .*llama-65b, .*, got 'llama'"),
        ("shape: llama-65b", "path: /nowhere", r"problem\.yaml:6: .*/nowhere"),
        ("name: big", "name: chat", "models must be named once each, got 'chat'"),
        ("chip: H200", "chips: H200", r"problem\.yaml:2: chips is no known key; did you mean chip"),
        ("chip: H200", "chip: TPU", r"problem\.yaml:2: chip must be one of A100"),
        ("nodes: 1", "nodes: 0", r"problem\.yaml:2: nodes: cluster\.nodes must be 1 to 4096, got 0"),
        (
            "nodes: 1, devices_per_node: 4",
            "nodes: 4096, devices_per_node: 9",
            r"yaml:2: nodes: cluster\.nodes must be at most 3640, for 32768 dev",
        ),
        ("rate: 12", "rate: 12, prompt_tokens: 131072", r"yaml:4: prompt_tokens: .*below the model's context of 131072 tokens, got 131072"),
        ("shape: llama-65b", f"path: {FARM}", r"yaml:6: .*prompt_tokens .*, the mean of sharegpt: give prompt_tokens"),
        ("rate: 1,", "rate: 1, output_tokens: 9000,", r"yaml:6: output_tokens: .*below the model's context of 2048 tokens, got 9000"),
        ("rate: 12", "rate: 12, weight: 0", r"yaml:4: weight: models\.chat\.weight must be over 0, to 1000, got 0\.0"),
        (
            "models:",
            "objective: most\nmodels:",
            r"yaml:3: objective must be one of balanced, throughput, max-min, .*, got 'most'",
        ),
        ("rate: 12", "rate: 12, weights: fp4", r"yaml:4: weights: models\.chat\.weights must be one of bf16, fp8, int8, int4, got 'fp4'"),
        ("rate: 12", "rate: 12, cache: int4", r"yaml:4: cache: models\.chat\.cache must be one of bf16, fp8, int8, got 'int4'"),
        ("models:", "chips: 3\nmodels:", r"yaml:3: chips must be names"),
        ("models:", "chips: {x: {like: y}}\nmodels:", r"yaml:3: like must be one of A100, .*, got 'y'"),
        ("models:", "chips: {x: {launch_s: 1}}\nmodels:", r"yaml:3: launch_s: needs memory_bytes and flops_per_s and .* too"),
        ("models:", "chips: {x: {like: H100, flops_per_s: -1}}\nmodels:", r"yaml:3: flops_per_s .*over 0, to 1e\+30, got -1"),
        ("models:", "modells:", r"problem\.yaml:3: modells is no known key; did you mean models"),
        ("devices_per_node: 4", "devices_per_node: 1", r"big .*\d+ bytes"),
    ],
)
def test_bad_problems_end_in_one_line_and_nothing_is_written(tmp_path, capsys, old, new, message):
    assert old in PROBLEM
    out = tmp_path / "placement.json"
    assert main(["place", str(write(tmp_path, PROBLEM.replace(old, new))), "-o", str(out)]) == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1 and not said.out and not out.exists()
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(said.err)


def test_demand_beyond_the_cluster_is_told_by_model(tmp_path, capsys):
    assert main(["place", str(write(tmp_path, PROBLEM)), "--time-limit", "600"]) == 0
    assert "asked" not in capsys.readouterr().out
    assert main(["place", str(write(tmp_path, PROBLEM.replace("rate: 12", "rate: 5000")))]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"more is asked than is served, in requests/s: chat \d[\d.]* of 5000 \(\d+%\).*", told)


def test_equal_units_are_told_once(tmp_path, capsys):
    text = "cluster: {chip: H200, nodes: 16}\nmodels:\n  - {name: a, shape: llama-3.1-8b, rate: 90000}\n"
    assert main(["place", str(write(tmp_path, text)), "-o", str(tmp_path / "p.json"), "--explain"]) == 0
    head, row, *_ = capsys.readouterr().out.splitlines()
    assert row.startswith(f"0-{len(read_placement(tmp_path / 'p.json').units) - 1} ") and head.startswith("unit")


def test_a_bar_tells_how_much_is_tried_and_served(tmp_path, capsys, monkeypatch):
    told = []

    class Bar(tqdm):
        def update(self, n=1):
            told.append((n, self.postfix))

    monkeypatch.setattr("muxjax.progress.tqdm", Bar)
    assert main(["place", str(write(tmp_path, PROBLEM))]) == 0
    assert len(told) > 3 and sum(units for units, _ in told) > 10
    assert told[0][1] == "0.0% of what can be served at best" and told[-1][1] == "100.0% of what can be served at best"


def test_lines_tell_of_a_long_search_where_no_bar_is_drawn(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("muxjax.progress.SAY_S", 0.0)
    assert main(["place", str(write(tmp_path, PROBLEM)), "--explain"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "placing: 1 units, 0.0% of what can be served at best"
    assert "explaining: 3 models" in said and any(line.endswith("units, 100.0% of what can be served at best") for line in said)


def test_a_time_limit_that_is_over_ends_with_the_first_placement(tmp_path, capsys):
    out = tmp_path / "placement.json"
    assert main(["place", str(write(tmp_path, PROBLEM)), "--time-limit", "1e-9", "-o", str(out)]) == 0
    assert "the search ended at its limit: this is the best placement until then" in capsys.readouterr().out
    assert {placed.model for unit in read_placement(out).units for placed in unit.members} == {"chat", "small", "big"}


def placement(*meshes: list[str]) -> Placement:
    units = (UnitPlan(devices=1, members=tuple(Placed(model=name, rate_rps=1.0, devices=(0,)) for name in mesh)) for mesh in meshes)
    return Placement(units=tuple(units))


def test_the_runner_up_is_the_unit_where_an_llm_loses_least():
    """A unit serves 10 less 4 for every LLM beside the first, and no unit has room for more than two."""

    def score(unit: UnitPlan) -> float:
        return 14.0 * len(unit.members) - 4.0 * len(unit.members) ** 2 if len(unit.members) < 3 else float("-inf")

    assert list(reasons(placement(["a", "b"], ["c"], ["d", "e"]), score))[2] == Reason(model="c", unit=1, runner_up=None, cost_rps=0.0)
    found = list(reasons(placement(["a"], ["b"], ["c", "d"]), score))
    assert found[0] == Reason(model="a", unit=0, runner_up=1, cost_rps=10.0 - 2.0)
    assert found[2] == Reason(model="c", unit=2, runner_up=0, cost_rps=2.0 - 2.0)


def test_a_placement_file_is_read_as_it_was_written_and_no_other(tmp_path):
    path, written = tmp_path / "p.json", placement(["a", "b"], ["c"])
    write_placement(written, path)
    assert read_placement(path) == written
    numbered = replace(written, units=tuple(replace(unit, first_device=i) for i, unit in enumerate(written.units)))
    write_placement(numbered, path)
    assert read_placement(path) == numbered
    path.write_text(json.dumps({"muxjax_placement": 1, "units": [{"devices": 1, "members": []}]}))
    assert read_placement(path).units[0].first_device is None
    for wrong in ({"muxjax_placement": 2}, {}, {"muxjax_placement": 1, "units": [{"devices": 1}]}):
        path.write_text(json.dumps(wrong))
        with pytest.raises(ConfigError, match=r"p\.json"):
            read_placement(path)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [("rate_rps", "x", "a number, got 'x'"), ("model", 3, "a text, got 3"), ("devices", [0, "1"], r"integers, got \[0, '1'\]")],
)
def test_a_member_of_another_kind_is_told_by_its_place(tmp_path, key, value, told):
    path = tmp_path / "p.json"
    write_placement(placement(["a", "b"], ["c"]), path)
    written = json.loads(path.read_text())
    written["units"][0]["members"][1][key] = value
    path.write_text(json.dumps(written))
    with pytest.raises(ConfigError, match=rf"units\.0\.members\.1\.{key} must be {told}"):
        read_placement(path)


def test_a_place_that_cannot_be_written_to_is_told_in_one_line(tmp_path, capsys):
    assert main(["place", str(write(tmp_path, PROBLEM)), "-o", str(tmp_path / "no" / "placement.json")]) == 2
    assert "placement.json cannot be written" in capsys.readouterr().err


NARROW = PROBLEM.replace("rate: 12", "rate: 12, weights: fp8, cache: fp8")


def test_a_placement_says_how_models_are_held_and_one_from_before_that_has_16_bits(tmp_path):
    out = tmp_path / "placement.json"
    assert main(["place", str(write(tmp_path, NARROW)), "-o", str(out)]) == 0
    held = {placed.model: (placed.weights, placed.cache) for unit in read_placement(out).units for placed in unit.members}
    assert held == {"chat": ("fp8", "fp8"), "small": ("bf16", "bf16"), "big": ("bf16", "bf16")}

    written = json.loads(out.read_text())
    for member in (member for unit in written["units"] for member in unit["members"]):
        del member["weights"], member["cache"]
    out.write_text(json.dumps(written))
    assert {(placed.weights, placed.cache) for unit in read_placement(out).units for placed in unit.members} == {("bf16", "bf16")}

    member["weights"] = "fp4"
    out.write_text(json.dumps(written))
    with pytest.raises(ConfigError, match=r"members\.\d\.weights must be one of bf16, fp8, int8, int4, got 'fp4'"):
        read_placement(out)


def test_weights_in_fp8_are_counted_as_they_are_served(tmp_path):
    """Matrices of the layers are rounded, with their scales beside them; embeddings and the head are not."""
    problem = read_problem(write(tmp_path, NARROW))
    chat = problem.demand("chat")
    spec = BY_NAME["llama-3.1-8b"]
    assert weight_bytes(chat.spec, problem.mesh(chat)) == pytest.approx(spec.params + spec.vocab * spec.width * 2, rel=0.001)
    assert kv_bytes_per_token(chat.spec, problem.mesh(chat)) == spec.layers * spec.kv_elements


def test_models_that_are_served_in_fp8_by_their_own_options_are_placed_so(tmp_path):
    options = [
        ModelOptions(name="chat", path=FARM, quantization="fp8_w8a8"),
        ModelOptions(name="big", path=FARM, kv_cache_dtype="fp8"),
        ModelOptions(name="elsewhere", path=FARM, quantization="fp8"),
    ]
    found, named = read_problem(write(tmp_path, PROBLEM), options), read_problem(write(tmp_path, NARROW.replace(", cache: fp8", "")))
    assert found.demand("chat") == named.demand("chat")
    assert [(one.weights, one.cache) for one in found.demands] == [("fp8", "bf16"), ("bf16", "bf16"), ("bf16", "fp8")]
