"""Does the simulator say what clients measure of a whole server on one H200?

    python -m scripts.bench_simulated_systems     simulates what docs/results/three-models has, and writes docs/results/simulated-systems/

The same requests, models, cache, slots and policy; measured over HTTP by `scripts.bench_systems`, of which the simulator knows nothing but
the steps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from muxjax.cost.chip import H200, MeshSpec
from muxjax.cost.measured import costs_of
from muxjax.scheduler.policies import by_name
from muxjax.simulate.sharing import LANES, SERIAL
from muxjax.simulate.unit import Hosted, Machine
from muxjax.specs.published import BY_NAME as SHAPES
from muxjax.units import show_s
from muxjax.workload.metrics import Served
from scripts import results
from scripts.experiments.measure import CURVE, arrivals, curves
from scripts.experiments.question import Question
from scripts.experiments.questions import BY_NAME

QUESTION, OF = "simulated-systems", "three-models"
POLICIES = {"mux": ("mux", 3), "adbs": ("adbs", 1), "turns": ("fcfs", 1), "round-robin": ("round_robin", 1)}
"""Policy and lanes of those backends that have one cache."""
GIB = 2**30
GOAL = 0.15
KINDS = ("ttft_s", "tpot_s")
DRAIN_S = 120.0


def main() -> None:
    lines = [line for line in results.read_runs(OF) if line["config"]["backend"] in POLICIES and line["values"]["complete"]]
    records = [record(line) for line in lines]
    results.write_runs(QUESTION, "runs", records)
    text = page(records)
    results.write_readme(QUESTION, text)
    print(text)


def record(line: Mapping[str, Any]) -> dict[str, Any]:
    """What the simulator says of a measured run, beside it."""
    config = line["config"]
    served = simulated(replace(BY_NAME[OF], duration_s=config["duration_s"]), config, line["seed"])
    told = {name: config[name] for name in ("backend", "scale", "duration_s")} | {"measured_at": line["commit"]}
    values = {"measured": line["values"]["curves"], "simulated": curves(served)}
    return results.run_record(device=f"simulated {line['device']}", config=told, seed=line["seed"], values=values)


def simulated(question: Question, config: Mapping[str, Any], seed: int) -> Sequence[Served]:
    """The requests of that run as the simulator serves them."""
    policy, lanes = POLICIES[config["backend"]]
    hosted = {name: Hosted(spec=SHAPES[shape], mesh=MeshSpec(chip=H200), rate_rps=1.0) for name, shape in config["models"].items()}
    machine = Machine(
        hosted=hosted,
        cache_bytes=int(config["cache"].removesuffix("GiB")) * GIB,
        measured=costs_of([H200]),
        slots=config["max_num_seqs"],
        max_tokens=question.max_model_len,
        lanes=lanes,
    )
    requests = [one._replace(time_s=one.time_s / config["scale"]) for one in arrivals(question, seed)]
    until_s = requests[-1].time_s + DRAIN_S
    return machine.serve(requests, by_name(policy), LANES if lanes > 1 else SERIAL, until_s).served


def errors(run: Mapping[str, Any]) -> Iterator[tuple[str, str, int, float, float]]:
    """Model, kind, percentile, measured and simulated seconds."""
    measured, found = run["values"]["measured"], run["values"]["simulated"]
    for model in measured:
        for kind in KINDS:
            for percent, mine, theirs in zip(CURVE, measured[model][kind], found[model][kind], strict=True):
                yield model, kind, percent, mine, theirs


def page(records: Sequence[Mapping[str, Any]]) -> str:
    """The answer for people."""
    commits = ", ".join(sorted({run["config"]["measured_at"] for run in records}))
    about = (
        f"Runs of [{OF}](../{OF}/README.md), measured over HTTP at commits {commits}, against the simulator fed the same requests, with the"
        f" same cache, slots and policies and the shipped table of steps. It knows nothing of HTTP, text and messages between processes."
        f" Goal: every percentile ({', '.join(map(str, CURVE))}) within {GOAL:.0%}. Command: `python -m scripts.bench_simulated_systems`;"
        f" commit {records[0]['commit']}."
    )
    near = [f"{kind[:4].upper()} within {GOAL:.0%}" for kind in KINDS]
    head = ("system", "x", *near, "TTFT p50: measured, simulated", "TPOT p50: measured, simulated")
    title = "# Does the simulator say what clients measure of a whole server on one H200?"
    return "\n\n".join([title, about, results.table(head, map(row, records))])


def row(run: Mapping[str, Any]) -> Sequence[str]:
    every = list(errors(run))
    close, middle = [], []
    for kind in KINDS:
        own = [one for one in every if one[1] == kind]
        close.append(f"{sum(abs(theirs / mine - 1) <= GOAL for *_, mine, theirs in own)} of {len(own)}")
        middle.append("; ".join(f"{one[0]} {show_s(one[3])}, {show_s(one[4])}" for one in own if one[2] == 50))
    return run["config"]["backend"], f"{run['config']['scale']:g}", *close, *middle


if __name__ == "__main__":
    main()
