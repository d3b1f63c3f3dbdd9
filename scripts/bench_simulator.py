"""Does the simulator say what the engine does on one H200, and does round robin serve more than ADBS at saturation?

    python -m scripts.bench_simulator            # writes docs/results/simulator-truth/ (minutes on two cores; a line a run)
    python -m scripts.bench_simulator --page     # only rewrites the page from the lines there are
    python -m scripts.bench_simulator --take     # takes what is compared from the lines of bench_colocation first
    python -m scripts.bench_simulator --only policies    # keeps the lines of the other part

The requests are those of `bench_colocation`, by the same generator and seed.
"""

import argparse
import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from muxjax.cost.chip import H200, MeshSpec
from muxjax.cost.measured import shipped
from muxjax.engine.job_records import JobRecord
from muxjax.scheduler.policies import by_name
from muxjax.simulate.sharing import LANES, SERIAL
from muxjax.simulate.unit import Hosted, Machine
from muxjax.specs.published import BY_NAME
from muxjax.workload.metrics import Served, percentiles
from muxjax.workload.trace import Arrival
from scripts import results
from scripts.colocation import ways
from scripts.colocation.truth import page

QUESTION, COLOCATION = "simulator-truth", "colocation"
DRAIN_S = 200.0

RECORDED, POLICIES = "recorded", "policies"
"""Parts: what the engine did, and ways that it was not measured in, under more than it can serve."""
LOADS = ("x1", "x3", "decodes", "long prompts")
DRAWS = ("x1", "x3")
"""Loads of which each seed is another draw."""
SEEDS = (1, 2, 3, 4, 5)
"""The first one is the recorded runs'."""
COMPARED: Mapping[str, Mapping[str, Any]] = {
    "adbs": {"lanes": 1, "policy": "adbs"},
    "round robin": {"lanes": 1, "policy": "round_robin"},
    "mux": {"lanes": 3, "policy": "mux"},
}
WARM_S, OVERLOAD_S = 5.0, 20.0
"""Of an overload that does not end: its first seconds, in which batches grow, do not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A simulation of one way under one load."""

    part: str
    way: str
    load: str
    seed: int

    @property
    def options(self) -> Mapping[str, Any]:
        return COMPARED[self.way] if self.part == POLICIES else ways.WAYS[self.way]

    @property
    def arrivals(self) -> list[Arrival]:
        return ways.trace(self.seed, 3.0, 3 * OVERLOAD_S) if self.part == POLICIES else ways.LOADS[self.load](self.seed)

    @property
    def machine(self) -> Machine:
        """The unit of `bench_colocation`."""
        mesh = MeshSpec(chip=H200)
        return Machine(
            hosted={
                name: Hosted(spec=BY_NAME[shape], mesh=mesh, rate_rps=1.0, ttft_s=ways.TTFT_S, tpot_s=ways.TPOT_S)
                for name, shape in ways.MODELS.items()
            },
            cache_bytes=ways.CACHE_BYTES,
            measured=shipped(H200),
            slots=ways.SLOTS,
            max_tokens=ways.MAX_TOKENS,
            prefill_rows=ways.PROMPTS,
            lanes=self.options["lanes"],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--take", action="store_true")
    parser.add_argument("--only", choices=(RECORDED, POLICIES))
    args = parser.parse_args()
    if args.take:
        write_measured(take(results.read_runs(COLOCATION)))
    measured = read_measured()
    if not args.page:
        kept = [line for line in results.read_runs(QUESTION) if args.only and line["config"]["part"] != args.only]
        asked = [run for run in runs() if args.only in (None, run.part)]
        results.write_runs(QUESTION, "runs", [*kept, *simulated(asked)])
    text = page(results.read_runs(QUESTION), measured)
    results.write_readme(QUESTION, text)
    print(text)


def runs() -> Iterator[Run]:
    """All there is to simulate, the longest first."""
    yield from (Run(part=POLICIES, way=way, load="overload", seed=seed) for way in COMPARED for seed in SEEDS[:4])
    for load in LOADS:
        seeds = SEEDS if load in DRAWS else SEEDS[:1]
        yield from (Run(part=RECORDED, way=way, load=load, seed=seed) for way in ("turns", "mux") for seed in seeds)


def simulated(asked: Sequence[Run]) -> list[dict[str, Any]]:
    """Their records, in their order; a line is printed as each ends."""
    with ProcessPoolExecutor(2) as pool:
        begun = {pool.submit(simulate, run): run for run in asked}
        for number, future in enumerate(as_completed(begun), 1):
            run, values = begun[future], future.result()["values"]
            print(f"{number}/{len(asked)} {run.way}, {run.load}, seed {run.seed}: {values['requests_per_s']:.1f} requests/s", flush=True)
        return [future.result() for future in begun]


def simulate(run: Run) -> dict[str, Any]:
    """One run as a line."""
    jobs: list[JobRecord] = []
    sharing, until_s = (SERIAL if run.options["lanes"] == 1 else LANES), OVERLOAD_S if run.part == POLICIES else DRAIN_S
    policy = by_name(run.options["policy"])
    outcome = run.machine.serve(run.arrivals, policy, sharing, until_s, on_job=jobs.append)
    warm_s = WARM_S if run.part == POLICIES else 0.0
    values = figures([one for one in outcome.served if one.end_s >= warm_s], warm_s) | {"padding": outcome.padding_frac}
    if run.part == POLICIES:
        values |= made([job for job in jobs if warm_s < job.end_s <= until_s], until_s - warm_s)
    config = {"part": run.part, "way": run.way, "load": run.load, "options": dict(run.options)}
    return results.run_record(device=results.host(), config=config, seed=run.seed, values=values | {"steps": steps(jobs)})


def figures(served: Sequence[Served], since_s: float) -> dict[str, float]:
    """What is compared: of the requests that ended after since_s."""
    seconds, ttft = max(one.end_s for one in served) - since_s, percentiles([one.ttft_s for one in served])
    tpots = {
        f"tpot_{model}_s": statistics.median(own)
        for model in ways.MODELS
        if (own := [one.tpot_s for one in served if one.model == model and one.output_tokens > 1])
    }
    good = sum(one.ttft_s <= ways.TTFT_S and one.tpot_s <= ways.TPOT_S for one in served)
    return {
        "requests_per_s": len(served) / seconds,
        "tokens_per_s": sum(one.output_tokens for one in served) / seconds,
        "ttft_p50_s": ttft["p50"],
        "ttft_p99_s": ttft["p99"],
        **tpots,
        "attainment": good / len(served),
    }


def made(jobs: Sequence[JobRecord], seconds: float) -> dict[str, float]:
    """Tokens a second of all requests, those that do not end in time as well: a row of a step makes one, or is computed of a prompt."""
    rows = sum(job.rows for job in jobs)
    return {"rows_per_s": rows / seconds, "prompt_tokens_per_s": (sum(job.tokens for job in jobs) - rows) / seconds}


def steps(jobs: Iterable[JobRecord]) -> dict[str, dict[str, float]]:
    """Number and mean seconds of steps, by model and phase."""
    kinds: dict[str, list[float]] = {}
    for job in jobs:
        kinds.setdefault(f"{job.model} {job.phase}", []).append(job.end_s - job.start_s)
    return {kind: {"steps": len(own), "seconds": statistics.fmean(own)} for kind, own in sorted(kinds.items())}


def take(lines: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What is compared of the engine's runs: those with today's options of `bench_colocation`, of the last commit."""
    taken = [
        line
        for line in lines
        if line["config"]["load"] in LOADS
        and line["config"]["way"] in ("turns", "mux")
        and (line["config"]["slots"], line["seed"]) == (ways.SLOTS, SEEDS[0])
    ]
    commit = taken[-1]["commit"]
    taken = [line for line in taken if line["commit"] == commit]
    found = [{"way": line["config"]["way"], "load": line["config"]["load"], "values": recorded(line["values"])} for line in taken]
    return {"commit": commit, "device": taken[0]["device"], "runs": found}


def recorded(values: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a line of `bench_colocation`, as `figures` and `steps` have them."""
    return {
        "requests_per_s": values["requests_per_s"],
        "tokens_per_s": values["tokens_per_s"],
        "ttft_p50_s": values["ttft_s"]["p50"],
        "ttft_p99_s": values["ttft_s"]["p99"],
        **{f"tpot_{model}_s": values["models"][model]["tpot_s"]["p50"] for model in ways.MODELS if model in values["models"]},
        "attainment": values["attainment"],
        "padding": values["padding"],
        "steps": {kind: {"steps": own["steps"], "seconds": own["seconds"]} for kind, own in values["steps"].items()},
    }


def write_measured(measured: Mapping[str, Any]) -> None:
    path = results.RESULTS / QUESTION / "measured.json"
    path.write_text(json.dumps(measured, indent=1) + "\n")


def read_measured() -> dict[str, Any]:
    return json.loads((results.RESULTS / QUESTION / "measured.json").read_text())


if __name__ == "__main__":
    main()
