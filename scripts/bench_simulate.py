"""How long does it take to simulate 100,000 requests on 32 GPUs?

    python -m scripts.bench_simulate

MuxServe's 19 LLMs, placed on 32 A100 by `muxjax place`, under its power-law load, and fewer requests at a tenth of it, as `muxjax
simulate` runs them. Writes docs/results/simulate-speed/.
"""

import argparse
import os
import resource
import time

from muxjax.commands.simulation.report import numbers
from muxjax.cost.chip import A100
from muxjax.cost.roofline import Roofline
from muxjax.placement.greedy import place
from muxjax.placement.problem import Cluster, Demand, Problem
from muxjax.placement.search_space import search_space
from muxjax.simulate.cluster import outcomes, split
from muxjax.simulate.sharing import SPATIAL
from muxjax.specs.published import BY_NAME
from muxjax.workload import presets
from muxjax.workload.load import Load
from scripts import results

QUESTION = "simulate-speed"
GOAL_S, PROCESSORS = 300.0, 2
CLUSTER = Cluster.uniform(chip=A100, nodes=4, devices_per_node=8)
REQUESTS = 100_000
LIGHT_SCALE, LIGHT_FRAC = 0.1, 0.02
"""Share of the rate and of the requests, in a second run that tells what light loads cost."""
DRAIN_S = 60.0


def problem(workload: presets.Workload) -> Problem:
    """The preset's LLMs and rates."""
    demands = tuple(
        Demand(
            name=stream.model,
            spec=BY_NAME[str(stream.shape)],
            rate_rps=stream.arrivals.rate_rps,
            prompt_tokens=stream.lengths.prompt.mean_tokens,
            output_tokens=stream.lengths.output.mean_tokens,
        )
        for stream in workload.streams
    )
    return Problem(demands=demands, cluster=CLUSTER, objective="throughput")


def measure(requests: int, rate_scale: float, policy: str, seed: int) -> dict:
    """Seconds of one run from the trace to its numbers, and what it simulated."""
    workload = presets.by_name("powerlaw-19", rate_scale=rate_scale)
    window_s = requests / sum(workload.rates.values())
    asked, load = problem(workload), Load(arrivals=workload.trace(window_s, seed), window_s=window_s)
    placement = place(asked, *search_space(asked, Roofline())).placement
    start_s, cpu_s = time.perf_counter(), _processor_s()
    jobs = list(split(asked, placement, load.arrivals, policy, SPATIAL, window_s + DRAIN_S))
    found = numbers(asked, load, outcomes(jobs, title=f"{policy}, rate x {rate_scale:g}", processes=PROCESSORS))
    models = [model for unit in found["units"] for model in unit["models"].values()]
    return {
        "seconds": time.perf_counter() - start_s,
        "processor_s": _processor_s() - cpu_s,
        "load_average": os.getloadavg()[0],
        "requests": len(load.arrivals),
        "simulated_s": window_s,
        "units": len(jobs),
        "steps": sum(model[f"{kind}_steps"] for model in models for kind in ("prefill", "decode", "mixed")),
        "tokens": sum(model[f"{phase}_tokens"] for model in models for phase in ("prefill", "decode")),
        "served": found["served"],
        "rps": found["rps"],
        "attainment_at_8": found["attainment"]["latency"]["8"],
        "cache_peak_frac": max(unit["cache_peak_frac"] for unit in found["units"]),
        "preemptions": sum(model["preemptions"] for model in models),
    }


def _processor_s() -> float:
    """Processor seconds of this process and of those that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def summary(records: list[dict]) -> str:
    """A row a run."""
    head = (
        "policy",
        "req/s demanded",
        "requests",
        "simulated",
        "steps",
        "tokens",
        "seconds",
        "processor",
        "a step",
        "times real time",
        "served",
        "latency within 8 x",
    )
    return results.table(head, [_row(record["config"], record["values"]) for record in records])


def _row(config: dict, found: dict) -> tuple:
    return (
        config["policy"],
        f"{found['requests'] / found['simulated_s']:.1f}",
        f"{found['requests']:,}",
        f"{found['simulated_s']:,.0f} s",
        f"{found['steps']:,}",
        f"{found['tokens'] / 1e6:.1f} M",
        f"{found['seconds']:.0f} s",
        f"{found['processor_s']:.0f} s",
        f"{found['processor_s'] / found['steps'] * 1e6:.0f} us",
        f"{found['simulated_s'] / found['seconds']:.1f}",
        f"{found['served'] / found['requests']:.1%}",
        f"{found['attainment_at_8']:.1%}",
    )


README = """
# How long does it take to simulate 100,000 requests on 32 GPUs?

Goal: {goal_s:.0f} s at most on {processors} processors. Made by `python -m scripts.bench_simulate`; every value is in
[runs.jsonl](runs.jsonl). Device: {device}, whose load average was up to {load:.1f} during the runs: "seconds" are of the wall,
"processor" is the time of all processes together.

{summary}

**{answer}**

MuxServe's 19 LLMs (preset `powerlaw-19`, alpha 0.9, ShareGPT's lengths) on 32 A100-80GB in {units} units that `muxjax place` made,
through the scheduler, cache accounting and loop that serve; each unit in a process of its own, {processors} at a time. "A step" is the
processor's time by the steps: view, plan, commit, virtual execution, record, and a share of all else. What costs time is the number
of steps, not of requests: at a lower rate batches are smaller, so the same requests take more of them, and the second row has fewer
requests for that reason. No steps are skipped or merged.
"""


def answer(found: dict) -> str:
    """Whether the goal is met, on the wall or, where others had the processors too, by what the run itself took of them."""
    times = REQUESTS / found["requests"]
    seconds, own_s = times * found["seconds"], times * found["processor_s"] / PROCESSORS
    told = f"{found['requests']:,} requests took {found['seconds']:.0f} s, and {own_s / times:.0f} s of each of {PROCESSORS} processors"
    if times > 1.01:
        told += f"; {REQUESTS:,}, in proportion, {seconds:.0f} s and {own_s:.0f} s"
    if seconds <= GOAL_S:
        return f"{told}: the goal is met."
    return f"{told}: the goal is missed on this wall" + (", and would be met if nothing else ran." if own_s <= GOAL_S else ".")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--policy", default="adbs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", action="store_true", help="only write the page again, of the runs there are")
    args = parser.parse_args()
    if args.page:
        return write_page(results.read_runs(QUESTION))
    records = []
    for rate_scale, requests in ((1.0, args.requests), (LIGHT_SCALE, int(LIGHT_FRAC * args.requests))):
        config = {"policy": args.policy, "rate_scale": rate_scale, "workload": "powerlaw-19", "devices": CLUSTER.devices, "chip": A100.name}
        values = measure(requests, rate_scale, args.policy, args.seed)
        records.append(results.run_record(device=results.host(), config=config, seed=args.seed, values=values))
        print(summary(records[-1:]), flush=True)
    results.write_runs(QUESTION, "runs", records)
    write_page(records)


def write_page(records: list[dict]) -> None:
    """The page of the runs."""
    text = README.format(
        goal_s=GOAL_S,
        processors=PROCESSORS,
        device=records[0]["device"],
        load=max(record["values"]["load_average"] for record in records),
        summary=summary(records),
        answer=answer(records[0]["values"]),
        units=records[0]["values"]["units"],
    )
    results.write_readme(QUESTION, text)


if __name__ == "__main__":
    main()
