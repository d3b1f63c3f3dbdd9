"""`muxjax simulate`: a placement under a trace, in virtual time, through the scheduler, cache accounting and loop that serve."""

import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from muxjax.commands.problem import read_problem, read_streams
from muxjax.commands.table import lines
from muxjax.engine.sim import SERIAL, SPATIAL, Sharing
from muxjax.engine.simulate import Hosted, Machine, Outcome
from muxjax.errors import ConfigError, require
from muxjax.placement import cost
from muxjax.placement.cost import MeshSpec
from muxjax.placement.plan_file import read_placement
from muxjax.placement.problem import Placed, Placement, Problem, UnitPlan
from muxjax.scheduler.policies import by_name
from muxjax.units import show_s
from muxjax.workload import files, metrics
from muxjax.workload.metrics import Alone, Served
from muxjax.workload.trace import Arrival, generate

SCALES = (2.0, 5.0, 10.0, 20.0)
"""Of the objectives: multiples of what a request takes alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One simulated unit, to be run in a process of its own."""

    machine: Machine
    arrivals: Sequence[Arrival]
    policy: str
    sharing: Sharing
    until_s: float

    def run(self) -> Outcome:
        return self.machine.serve(self.arrivals, by_name(self.policy), self.sharing, self.until_s)


def run(problem_file: Path, placement_file: Path, *, trace: Path | None, duration_s: float, seed: int, policy: str, serial: bool) -> None:
    """Prints all metrics of the run.

    Args:
      trace: requests to replay until the last has had duration_s; None for what the problem's rates bring in that time.
    Raises:
      ConfigError: an unreadable file, or a trace with models that the placement lacks.
    """
    require(0 < duration_s < float("inf"), "duration", duration_s, "over 0 seconds and finite")
    problem, placement = read_problem(problem_file), read_placement(placement_file)
    arrivals = list(files.read(trace)) if trace else generate(read_streams(problem_file), duration_s, seed)
    until_s = duration_s if trace is None else max((arrival.time_s for arrival in arrivals), default=0.0) + duration_s
    jobs = list(split(problem, placement, arrivals, policy, SERIAL if serial else SPATIAL, until_s))
    served = [one for outcome in _outcomes(jobs) for one in outcome.served]
    print("\n".join(report(problem, arrivals, served, until_s)))


def split(
    problem: Problem, placement: Placement, arrivals: Iterable[Arrival], policy: str, sharing: Sharing, until_s: float
) -> Iterator[Job]:
    """A job for the LLMs of each unit that have devices in common; replicas get requests in proportion to their rates."""
    machines = [machine(problem, members) for unit in placement.units for members in together(unit)]
    routed = route(machines, arrivals)
    for one, own in zip(machines, routed, strict=True):
        yield Job(machine=one, arrivals=own, policy=policy, sharing=sharing, until_s=until_s)


def together(unit: UnitPlan) -> list[list[Placed]]:
    """The unit's LLMs, those that share a device, directly or through others, in one list."""
    groups: list[tuple[set[int], list[Placed]]] = []
    for placed in unit.members:
        touching = [group for group in groups if group[0] & set(placed.devices)]
        devices = set(placed.devices).union(*(group[0] for group in touching))
        members = [member for group in touching for member in group[1]]
        groups = [group for group in groups if group not in touching] + [(devices, [*members, placed])]
    return [members for _, members in groups]


def machine(problem: Problem, members: Sequence[Placed]) -> Machine:
    """Those LLMs on their devices, with the cache that the fullest device has room for."""
    chip = problem.cluster.chip
    hosted = {
        placed.model: Hosted(spec=problem.demand(placed.model).spec, mesh=MeshSpec(chip=chip, tp=placed.tp), rate_rps=placed.rate_rps)
        for placed in members
    }
    weights: Counter[int] = Counter()
    for placed in members:
        for device in placed.devices:
            weights[device] += cost.weight_bytes(hosted[placed.model].spec, hosted[placed.model].mesh)
    cache_bytes = problem.device_bytes - max(weights.values())
    if cache_bytes <= 0:
        raise ConfigError(f"the weights of {', '.join(hosted)} leave {cache_bytes} bytes of a device for the cache", field="placement")
    return Machine(hosted=hosted, cache_bytes=cache_bytes, slots=problem.max_batch)


def route(machines: Sequence[Machine], arrivals: Iterable[Arrival]) -> list[list[Arrival]]:
    """The requests of each machine: of an LLM with replicas, the one that is furthest behind its share gets the next.

    Raises:
      ConfigError: a request for an LLM that no machine has.
    """
    rates: dict[str, dict[int, float]] = {}
    for at, one in enumerate(machines):
        for model, hosted in one.hosted.items():
            rates.setdefault(model, {})[at] = hosted.rate_rps
    routed: list[list[Arrival]] = [[] for _ in machines]
    got: Counter[tuple[str, int]] = Counter()
    for arrival in arrivals:
        if arrival.model not in rates:
            raise ConfigError(f"the trace asks for model {arrival.model!r}, and the placement has {', '.join(rates)}", field="trace")
        replicas = rates[arrival.model]
        at = min(replicas, key=lambda at: ((got[arrival.model, at] + 1) / replicas[at], at))
        got[arrival.model, at] += 1
        routed[at].append(arrival)
    return routed


def report(problem: Problem, arrivals: Sequence[Arrival], served: Sequence[Served], until_s: float) -> Iterator[str]:
    """All metrics, of each LLM and in all, for people."""
    demanded = Counter(arrival.model for arrival in arrivals)
    rates = {demand.name: demand.rate_rps for demand in problem.demands}
    total = metrics.throughput(served, rates, until_s)
    rows: list[Sequence[str]] = [("model", "requests", "served", "TTFT p50", "p99", "per token p50", "p99", "latency p50", "p99")]
    for model, own in metrics.by_model(served, rates).items():
        rows.append(_row(model, demanded[model], own))
    rows.append(_row("all", sum(demanded.values()), served))
    yield from lines(rows)
    yield (
        f"{total.rps:.4g} requests/s, rate-weighted {total.weighted_rps:.4g}; {total.output_tokens_per_s:.5g} output tokens/s of "
        f"{total.total_tokens_per_s:.5g}; Jain index of served over demanded {metrics.fairness(served, demanded):.3f}"
    )
    kept = metrics.attainments(served, partial(_alone, problem), sum(demanded.values()), SCALES)
    for name in ("ttft", "tpot", "latency"):
        shares = getattr(kept, name)
        yield f"{name} within its objective: " + ", ".join(f"{share:.1%} at {scale:g} x" for scale, share in shares.items())


def _row(name: str, demanded: int, served: Sequence[Served]) -> tuple[str, ...]:
    found = metrics.latencies(served)
    times = [show_s(values[at]) for values in (found.ttft_s, found.tpot_s, found.latency_s) for at in ("p50", "p99")]
    return name, str(demanded), str(len(served)), *times


def _alone(problem: Problem, one: Served) -> Alone:
    """On an idle mesh of the least degree that holds the LLM."""
    spec, chip = problem.demand(one.model).spec, problem.cluster.chip
    tp = 1
    while cost.weight_bytes(spec, MeshSpec(chip=chip, tp=tp)) > problem.device_bytes:
        tp *= 2
    mesh = MeshSpec(chip=chip, tp=tp)
    context = int(one.prompt_tokens + one.output_tokens / 2)
    return Alone(
        prefill_s=cost.prefill(spec, mesh, one.prompt_tokens, (one.prompt_tokens + 1) / 2).total_s,
        decode_s=cost.decode(spec, mesh, 1, context).total_s,
    )


def _outcomes(jobs: Sequence[Job]) -> list[Outcome]:
    """Of all jobs, the largest first, on all processors."""
    order = sorted(range(len(jobs)), key=lambda at: -len(jobs[at].arrivals))
    with multiprocessing.get_context("spawn").Pool() as pool:
        running = pool.imap(Job.run, [jobs[at] for at in order])
        return list(tqdm(running, total=len(jobs), desc="simulating", unit="unit", disable=None))
