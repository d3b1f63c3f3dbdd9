"""How near is the estimate of a unit to what the simulator serves, in turns and on lanes, and is equation 3 of MuxServe nearer?

python -m scripts.bench_estimator            writes docs/results/estimator/ (ten minutes on two cores)
python -m scripts.bench_estimator --tiny     prints the table for a few short runs
"""

import argparse
import multiprocessing
import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from math import isfinite

import numpy as np
from tqdm import tqdm

from muxjax.cost.chip import A100, H200, MeshSpec
from muxjax.cost.roofline import Roofline, weight_bytes
from muxjax.errors import ConfigError
from muxjax.placement.estimate import equation3, estimator
from muxjax.placement.estimate.estimator import ModelEstimate
from muxjax.placement.problem import Cluster, Demand, Placed, Problem, UnitPlan
from muxjax.scheduler.policies import by_name
from muxjax.simulate.sharing import LANES, SERIAL
from muxjax.simulate.unit import Hosted, Machine
from muxjax.specs.published import BY_NAME
from muxjax.workload.arrivals import Poisson
from muxjax.workload.lengths import of_trace
from muxjax.workload.metrics import Served
from muxjax.workload.trace import Arrival, Stream, capped, generate
from scripts import results

QUESTION = "estimator"
WARM_FRAC = 1 / 3
"""Beginning of a run, which does not count."""
MET = 0.95
"""Share of its demand: who serves more in simulation is not overloaded."""
SHARINGS = {"turns": (SERIAL, "adbs"), "lanes": (LANES, "mux")}
"""How the engine shares devices, and by which policy."""
ESTIMATORS = {"turns": "turns of ADBS", "lanes": "lanes", "equation3": "equation 3"}
OF = {"turns": ("turns", "equation3"), "lanes": ("lanes", "turns", "equation3")}
"""What is held against each."""
KINDS = ("llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b", "llama-7b", "llama-13b", "llama-30b", "llama-65b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """LLMs that share all devices of a unit, and the requests that come for them in duration_s."""

    problem: Problem
    unit: UnitPlan
    arrivals: tuple[Arrival, ...]
    duration_s: float


def cases(seed: int, duration_s: float) -> Iterator[Case]:
    """Those that fit, without end: 1 to 4 LLMs on 1, 2 or 4 devices of two kinds, from idle to far overloaded."""
    rng = np.random.default_rng(seed)
    while True:
        chip, devices, models = (A100, H200)[rng.integers(2)], int(rng.choice([1, 1, 1, 2, 4])), int(rng.integers(1, 5))
        kinds = [KINDS[i] for i in rng.integers(len(KINDS), size=models)]
        rates = (rng.dirichlet(np.ones(models)) * devices * np.exp(rng.uniform(np.log(0.3), np.log(16))) + 0.02).tolist()
        names = [f"{kind}-{i}" for i, kind in enumerate(kinds)]
        streams = [
            Stream(model=name, arrivals=Poisson(rate_rps=rate), lengths=of_trace("sharegpt"))
            for name, rate in zip(names, rates, strict=True)
        ]
        arrivals = tuple(capped(generate(streams, duration_s, int(rng.integers(2**31))), 2048))
        if {arrival.model for arrival in arrivals} == {*names}:
            demands = tuple(_demand(name, kind, rate, arrivals) for name, kind, rate in zip(names, kinds, rates, strict=True))
            problem = Problem(demands=demands, cluster=Cluster.uniform(chip=chip, nodes=1, devices_per_node=devices))
            placed = tuple(Placed(model=demand.name, rate_rps=demand.rate_rps, devices=tuple(range(devices))) for demand in demands)
            unit = UnitPlan(devices=devices, members=placed)
            with suppress(ConfigError):
                estimator.estimate(problem, Roofline(), unit)
                yield Case(problem=problem, unit=unit, arrivals=arrivals, duration_s=duration_s)


def _demand(name: str, kind: str, rate_rps: float, arrivals: Iterable[Arrival]) -> Demand:
    """With the mean lengths of the very requests that come."""
    own = [arrival for arrival in arrivals if arrival.model == name]
    prompt, output = (statistics.fmean(getattr(arrival, side) for arrival in own) for side in ("prompt_tokens", "output_tokens"))
    return Demand(name=name, spec=BY_NAME[kind], rate_rps=rate_rps, prompt_tokens=prompt, output_tokens=output)


def has_lanes(case: Case) -> bool:
    """Whether the engine has lanes there."""
    return case.unit.devices == 1 and len(case.unit.members) > 1


def simulated(case: Case, way: str) -> dict[str, dict]:
    """Throughput of each LLM once the run has warmed up; the latencies of an LLM are None where no request came and ended in time."""
    chip, tp = case.problem.cluster.chips[0], case.unit.devices
    mesh = MeshSpec(chip=chip, tp=tp)
    hosted = {demand.name: Hosted(spec=demand.spec, mesh=mesh, rate_rps=demand.rate_rps) for demand in case.problem.demands}
    cache_bytes = case.problem.device_bytes() - sum(weight_bytes(one.spec, mesh) for one in hosted.values())
    lanes, (sharing, policy) = len(hosted) if way == "lanes" else 1, SHARINGS[way]
    machine = Machine(hosted=hosted, cache_bytes=cache_bytes, slots=case.problem.max_batch, lanes=lanes)
    served = machine.serve(case.arrivals, by_name(policy), sharing, case.duration_s).served
    return {name: _measured(case, [one for one in served if one.model == name], name) for name in hosted}


def _measured(case: Case, served: Sequence[Served], name: str) -> dict:
    warm_s = WARM_FRAC * case.duration_s
    came = sum(arrival.model == name and arrival.time_s >= warm_s for arrival in case.arrivals)
    ended = sum(one.end_s >= warm_s for one in served)
    timed = [one for one in served if one.arrival_s >= warm_s]
    steps = sum(one.output_tokens - 1 for one in timed)
    return {
        "throughput_rps": ended / (case.duration_s - warm_s),
        "met": ended >= MET * came,
        "ttft_s": statistics.fmean(one.first_s - one.arrival_s for one in timed) if timed else None,
        "tpot_s": sum(one.end_s - one.first_s for one in timed) / steps if steps else None,
    }


def estimated(case: Case, way: str) -> dict[str, dict]:
    """The same, as an estimator says."""
    if way == "equation3":
        estimates = equation3.estimate(case.problem, Roofline(), case.unit)
    else:
        estimates = estimator.estimate(replace(case.problem, lanes=way == "lanes"), Roofline(), case.unit).models
    return {name: _estimate(one) for name, one in estimates.items()}


def _estimate(one: ModelEstimate) -> dict:
    return {field: getattr(one, field) for field in ("throughput_rps", "ttft_s", "tpot_s", "batch")}


def measure(case: Case) -> dict:
    """A record of one unit: what each estimator says, and what is served."""
    config = {
        "chip": case.problem.cluster.chips[0].name,
        "devices": case.unit.devices,
        "rates": {demand.name: demand.rate_rps for demand in case.problem.demands},
        "duration_s": case.duration_s,
    }
    values = {way: estimated(case, way) for way in ESTIMATORS}
    values |= {f"simulated {way}": simulated(case, way) for way in SHARINGS if way == "turns" or has_lanes(case)}
    return results.run_record(device=f"simulated {case.problem.cluster.chips[0].name}", config=config, seed=0, values=values)


def errors(records: Iterable[dict], way: str, sharing: str, field: str, *, met: bool | None = None) -> list[float]:
    """Estimate over simulation less 1, of each LLM that has both; those that are met in simulation, those that are not, or all.

    Throughput is of whole units: an LLM of a request a minute says nothing by itself.
    """
    found = []
    for record in records:
        if f"simulated {sharing}" not in record["values"]:
            continue
        said, served = record["values"][way], record["values"][f"simulated {sharing}"]
        if met is not None and all(one["met"] for one in served.values()) != met:
            continue
        if field == "throughput_rps":
            said, served = ({"": {field: sum(one[field] for one in each.values())}} for each in (said, served))
        pairs = [(said[name][field], served[name][field]) for name in said]
        found += [guess / real - 1 for guess, real in pairs if real and isfinite(guess)]
    return found


def summary(records: Sequence[dict]) -> str:
    """Both estimators against the simulator, in each way that it shares devices."""
    head = ("devices shared", "units", "estimate of", "by", "number", "median error", "p90", "worst", "bias")
    return results.table(head, _rows(records))


def _rows(records: Sequence[dict]) -> Iterator[tuple]:
    parts = (
        ("throughput_rps", "throughput", True),
        ("throughput_rps", "throughput", False),
        ("ttft_s", "TTFT", True),
        ("tpot_s", "TPOT", True),
        ("tpot_s", "TPOT", False),
    )
    for sharing in SHARINGS:
        for field, name, met in parts:
            for way in OF[sharing]:
                shares = errors(records, way, sharing, field, met=met)
                sizes = sorted(map(abs, shares))
                if sizes:
                    numbers = (statistics.median(sizes), float(np.quantile(sizes, 0.9)), sizes[-1], statistics.median(shares))
                    group = sharing, "met" if met else "overloaded", name, ESTIMATORS[way], len(shares)
                    yield *group, *(f"{number:.0%}" for number in numbers)


PAGE = """
# How near is the estimate of a unit to what the simulator serves?

{count} random units: 1 to 4 LLMs of published shapes that share 1, 2 or 4 A100 or H200, ShareGPT's lengths, Poisson arrivals, from idle
to far overloaded; {duration_s:.0f} s each, of which the first third does not count. The simulator runs the real scheduler and cache
accounting over the roofline, with the sizes of steps that a GPU has; the estimators know the same roofline and the mean lengths of the
same requests. Made by `python -m scripts.bench_estimator`; every value is in [runs.jsonl](runs.jsonl).

{table}

"Turns" are of all units, under ADBS: one step after another. "Lanes" are of the {lanes} units of several LLMs on one device, where the
engine has a lane for each: under `mux`, beside each other as [simulator-truth](../simulator-truth/README.md) has it. There, the turns of
ADBS are what placers took them for before they knew of lanes. A unit is met when every LLM serves 95 % of
what comes for it. Throughput is of whole units, TTFT and TPOT of each LLM; the bias is the median of estimate over simulation, less 1.
Who an estimator says cannot be met has no TTFT, and is left out of its row.

{verdict}
"""


def verdict(records: Sequence[dict]) -> str:
    """Which is nearest, of what placement is decided by: throughput, and times between tokens, which batches follow."""
    told = []
    for sharing, ways in OF.items():
        throughput, tpot = ({way: _mean_error(records, way, sharing, field) for way in ways} for field in ("throughput_rps", "tpot_s"))
        sizes = ", ".join(f"{throughput[way]:.0%} and {tpot[way]:.0%} by {ESTIMATORS[way]}" for way in ways)
        nearest = ESTIMATORS[min(ways, key=lambda way: throughput[way] + tpot[way])]
        told.append(f"- {sharing.capitalize()}: {sizes}. Nearest: **{nearest}**.")
    first, last = "Mean error of throughput and TPOT, over all units:\n", "\nPlacers use lanes where there are some, else turns."
    return "\n".join((first, *told, last))


def _mean_error(records: Sequence[dict], way: str, sharing: str, field: str) -> float:
    return statistics.fmean(map(abs, errors(records, way, sharing, field)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a few short runs, printed only")
    parser.add_argument("--units", type=int, default=60)
    parser.add_argument("--duration", type=float, default=120.0, metavar="S", help="simulated seconds of each (120)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    count, duration_s = (3, 6.0) if args.tiny else (args.units, args.duration)
    todo = list(islice(cases(args.seed, duration_s), count))
    with multiprocessing.get_context("spawn").Pool() as pool:
        records = list(tqdm(pool.imap(measure, todo), total=count, unit="unit", disable=None))
    print(summary(records))
    if not args.tiny:
        results.write_runs(QUESTION, "runs", records)
        told = {"table": summary(records), "verdict": verdict(records), "lanes": sum(map(has_lanes, todo))}
        results.write_readme(QUESTION, PAGE.format(count=count, duration_s=duration_s, **told))


if __name__ == "__main__":
    main()
