"""How near to the optimum are placements, and how long do they take to find?

python -m scripts.bench_placement          writes docs/results/placement-quality/ and docs/results/placement-speed/
python -m scripts.bench_placement --tiny   prints both for a few small problems
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from muxjax.cost.chip import A100
from muxjax.cost.roofline import Roofline
from muxjax.errors import ConfigError
from muxjax.placement.estimate.estimator import estimate
from muxjax.placement.greedy import ESTIMATES_EACH, Effort, place
from muxjax.placement.headroom import place_with_headroom
from muxjax.placement.objective import Objective
from muxjax.placement.problem import Cluster, Demand, Problem
from muxjax.placement.references import baselines, ilp
from muxjax.placement.search_space import search_space
from muxjax.specs.published import BY_NAME
from muxjax.workload.lengths import of_trace
from scripts import results

QUALITY, SPEED = "placement-quality", "placement-speed"
KINDS = ("llama-7b",) * 12 + ("llama-13b",) * 4 + ("llama-30b",) * 2 + ("llama-65b",)
ALPHA = 0.9
BASELINES = ("memory_greedy", "spatial_blind", "spatial_aware")
OBJECTIVES = ("throughput", "balanced")
PARTS = {2: (4, 4), 3: (4, 4), 4: (2, 1), 5: (1, 1)}
"""Replicas and grain of the optimum's splits, by LLMs: as many as it can be worked out with."""
SIZES = [(19, 4), (50, 16), (100, 32), (200, 64)]
HARD_SIZES = [(10, 1), (40, 64), (200, 128), (1000, 512)]
"""LLMs and nodes of eight devices."""
EVEN = "optimum of even splits"
WAYS = {
    "search of all groups": Effort(),
    "search of a large cluster": Effort(groups=0),
    "greedy alone": Effort(groups=0, breadth=0),
}
"""The first is what clusters of up to 8 devices get, the second what larger ones do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Small:
    """A problem whose optimum can be known, the most replicas of an LLM in it, and the grain of its uneven splits."""

    problem: Problem
    parts: int
    grain: int


def problem(kinds: list[str], rates: list[float], nodes: int, devices_per_node: int, objective: str = "balanced") -> Problem:
    """LLMs of those shapes on A100s, with requests of ShareGPT's mean lengths."""
    lengths = of_trace("sharegpt")
    demands = tuple(
        Demand(
            name=f"{kind}-{i}",
            spec=BY_NAME[kind],
            rate_rps=rate,
            prompt_tokens=lengths.prompt.mean_tokens,
            output_tokens=lengths.output.mean_tokens,
        )
        for i, (kind, rate) in enumerate(zip(kinds, rates, strict=True))
    )
    cluster = Cluster.uniform(chip=A100, nodes=nodes, devices_per_node=devices_per_node)
    return Problem(demands=demands, cluster=cluster, objective=objective)


def popular(models: int, nodes: int, rps_per_device: float, rng: np.random.Generator) -> Problem:
    """MuxServe's mix of shapes with power-law rates: its 19 LLMs in its order, others drawn from it."""
    kinds = list(KINDS) if models == len(KINDS) else [KINDS[i] for i in rng.integers(len(KINDS), size=models)]
    weights = (1.0 + np.arange(models)) ** -ALPHA
    return problem(kinds, (weights / weights.sum() * rps_per_device * nodes * 8).tolist(), nodes, 8)


def small_problems(seed: int) -> Iterator[Small]:
    """Without end: 2 to 5 LLMs on 2 to 8 devices, from idle to far overloaded, each for every objective."""
    rng = np.random.default_rng(seed)
    while True:
        models = int(rng.integers(2, 6))
        nodes, devices = int(rng.integers(1, 3)), int(rng.choice([2, 4]))
        kinds = [KINDS[i] for i in rng.integers(len(KINDS), size=models)]
        rates = rng.dirichlet(np.full(models, 0.7)) * nodes * devices * rng.uniform(1, 12) + 0.05
        parts, grain = PARTS[models]
        for objective in OBJECTIVES:
            yield Small(problem=problem(kinds, rates.tolist(), nodes, devices, objective), parts=parts, grain=grain)


def quality(small: Small) -> dict | None:
    """Worth of each way and of the optimum; None where nothing fits."""
    asked = small.problem
    objective, candidates = search_space(asked, Roofline())
    best = ilp.optimum(asked, objective, candidates, most_parts=small.parts, grain=small.grain)
    even = ilp.optimum(asked, objective, candidates, most_parts=small.parts)
    if best is None or even is None:
        return None
    values = {
        "everything": objective.most_worth,
        "optimum": objective.total(best),
        EVEN: objective.total(even),
        "columns": objective.estimates,
    }
    for way, effort in WAYS.items():
        fresh = replace(effort, parts=small.parts)
        try:
            values[way] = place(asked, objective, candidates, fresh).worth
        except ConfigError:
            values[way] = 0.0
    return values


def measure_quality(count: int, seed: int) -> Iterator[dict]:
    """Records of so many problems that fit."""
    for small in small_problems(seed):
        try:
            values = quality(small)
        except ConfigError:
            values = None
        if values is not None:
            yield results.run_record(
                device=results.host(),
                config=describe(small.problem) | {"parts": small.parts, "grain": small.grain},
                seed=seed,
                values=values,
            )
            count -= 1
        if not count:
            return


def measure_speed(models: int, nodes: int, rps_per_device: float, seed: int, *, baselines_too: bool) -> dict:
    """One placement, timed, and what the baselines serve."""
    asked = popular(models, nodes, rps_per_device, np.random.default_rng(seed))
    begin, begin_cpu = time.perf_counter(), time.process_time()
    placement = place_with_headroom(asked, partial(search_space, costs=Roofline()))
    served = [estimate(asked, Roofline(), unit).models for unit in placement.placement.units]
    shares = [sum(unit[one.name].throughput_rps for unit in served if one.name in unit) / one.rate_rps for one in asked.demands]
    values = {
        "seconds": time.perf_counter() - begin,
        "cpu_s": time.process_time() - begin_cpu,
        "groups": placement.groups,
        "units": placement.units,
        "complete": placement.complete,
        "throughput_rps": sum(share * one.rate_rps for share, one in zip(shares, asked.demands, strict=True)),
        "least_share": min(shares),
        "growth": placement.growth,
    }
    if baselines_too:
        objective, candidates = search_space(asked, Roofline())
        values |= {name: _baseline_rps(name, asked, objective, candidates) for name in BASELINES}
    return results.run_record(device=results.host(), config=describe(asked) | {"rps_per_device": rps_per_device}, seed=seed, values=values)


def describe(asked: Problem) -> dict:
    """Configuration that makes a problem again."""
    return {
        "objective": asked.objective,
        "models": {one.name: one.rate_rps for one in asked.demands},
        "chip": asked.cluster.pools[0].chip.name,
        "nodes": asked.cluster.pools[0].nodes,
        "devices_per_node": asked.cluster.pools[0].devices_per_node,
    }


def _baseline_rps(name: str, asked: Problem, objective: Objective, candidates) -> float | None:
    try:
        units = getattr(baselines, name)(asked, objective, candidates).units
    except ConfigError:
        return None
    return sum(estimate(asked, Roofline(), unit).throughput_rps for unit in units)


def quality_table(records: list[dict]) -> str:
    """Loss against the optimum, over all problems and those whose demand even the optimum does not meet."""
    rows = []
    for objective, way in itertools.product(OBJECTIVES, (EVEN, *WAYS)):
        own = [one for one in records if one["config"]["objective"] == objective]
        for which, found in (("all", own), ("overloaded", [one for one in own if _overloaded(one["values"])])):
            losses = [1 - one["values"][way] / one["values"]["optimum"] for one in found] or [0.0]
            rows.append(
                (
                    objective,
                    way,
                    which,
                    len(found),
                    f"{statistics.median(losses):.2%}",
                    f"{float(np.quantile(losses, 0.95)):.2%}",
                    f"{max(losses):.2%}",
                    sum(loss > 0.05 for loss in losses),
                )
            )
    return results.table(("objective", "way", "problems", "number", "median loss", "p95", "worst", "over 5 %"), rows)


def _overloaded(values: dict) -> bool:
    return values["optimum"] < values["everything"] * (1 - 1e-6)


def speed_table(records: list[dict]) -> str:
    """Time and growth, and what the baselines would serve, where that was asked."""
    head = ("LLMs", "devices", "demand req/s", "served", "least share", "may grow", "seconds", "CPU s", "groups", "units")
    if any(BASELINES[0] in record["values"] for record in records):
        head += ("memory-greedy", "spatial, blind", "spatial, aware")
    return results.table(head, [_speed_row(record["config"], record["values"]) for record in records])


def _speed_row(config: dict, values: dict) -> tuple:
    served = [values[name] for name in BASELINES if name in values]
    return (
        len(config["models"]),
        config["nodes"] * config["devices_per_node"],
        f"{sum(config['models'].values()):.0f}",
        f"{values['throughput_rps']:.0f}",
        f"{values['least_share']:.0%}",
        f"{values['growth']:.2f} x",
        f"{values['seconds']:.2f}",
        f"{values['cpu_s']:.2f}",
        values["groups"],
        f"{values['units']}{'' if values['complete'] else ', the most there may be'}",
        *("does not fit" if rps is None else f"{rps:.0f}" for rps in served),
    )


QUALITY_PAGE = """
# How near to the optimum are placements?

Random problems, small enough for the integer program of `muxjax/placement/references/ilp.py`, which is exact: 2 to 5 LLMs of MuxServe's
shapes on 2 to 8 A100, ShareGPT's mean lengths, from idle to a few times what can be served. The optimum has up to four replicas of an LLM,
two where there are 4 LLMs and one where there are 5. Where there are up to 3, a replica's part of the rate may be any quarters of it; the
searches share it evenly, and the first rows tell what that alone costs.
Loss is of what the objective counts, which for `throughput` is requests a second, by the same estimates for both. "Overloaded" are
problems whose demand even the optimum does not meet.
Made by `python -m scripts.bench_placement`; every problem is in [runs.jsonl](runs.jsonl).

{table}

All groups are searched on clusters of up to 8 devices; on larger ones, a first look finds the group that is. The optimum is the
estimate's, not a measured device's.
"""

SPEED_PAGE = """
# How long does placing take?

MuxServe's mix of shapes (12 : 4 : 2 : 1 of 7B, 13B, 30B, 65B) with power-law rates (alpha {alpha}) on nodes of eight A100, ShareGPT's
mean lengths, for the objective `balanced`; the least share is that of the rate of the LLM that is served worst. Seconds from the problem
to the placement, estimates included, one process. Made by `python -m scripts.bench_placement` on {host}; every value is in
[runs.jsonl](runs.jsonl).

{table}

Where all demand can be met the search ends with the first placement that does so, and a lighter one follows for placements under which
all rates may grow; groups and units are those of the first search. The machine is shared: where seconds are far over CPU seconds, others
computed at the same time. The last columns
are the requests a second that the baselines would serve, by the same estimates. MuxServe's own code takes 11 to 38 s for 19 LLMs on 32
devices.

## Far too much demand, and many devices

The same mix at 0.6, 6, 60 and 600 requests a second a device, where a device serves about 10 of the smallest LLM alone. A search ends after
{estimates} estimated units and {each} more for each LLM, if not by itself.

{hard}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a few small problems, printed only")
    parser.add_argument("--only", choices=("quality", "speed"), help="one of the two pages")
    parser.add_argument("--problems", type=int, default=200, help="for the quality (default 200)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.only != "speed":
        near = list(measure_quality(3 if args.tiny else args.problems, args.seed))
        _publish(QUALITY, QUALITY_PAGE, near, quality_table(near), write=not args.tiny)
    if args.only != "quality":
        sizes, hard_sizes = ([(3, 1)], [(3, 1)]) if args.tiny else (SIZES, HARD_SIZES)
        timed = [measure_speed(*size, rps, args.seed, baselines_too=True) for size in sizes for rps in (2.0, 5.0, 8.0)]
        hard = [measure_speed(*size, rps, args.seed, baselines_too=False) for size in hard_sizes for rps in (0.6, 6.0, 60.0, 600.0)]
        table = speed_table(timed)
        more = {"hard": speed_table(hard), "estimates": Effort().estimates, "each": ESTIMATES_EACH}
        _publish(SPEED, SPEED_PAGE, [*timed, *hard], table, write=not args.tiny, more=more)


def _publish(question: str, page: str, records: list[dict], table: str, *, write: bool, more: Mapping[str, object] | None = None) -> None:
    """Prints the tables of a page, and writes the page and its runs."""
    more = more or {}
    print(table, more.get("hard", ""), sep="\n\n", flush=True)
    if write:
        results.write_runs(question, "runs", records)
        results.write_readme(question, page.format(table=table, host=results.host(), alpha=ALPHA, **more))


if __name__ == "__main__":
    main()
