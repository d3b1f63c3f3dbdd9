"""A placement under a load: which unit gets which requests, and the units beside each other on all processors."""

import gc
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty
from typing import Any

from muxjax.cost import roofline
from muxjax.errors import ConfigError, require
from muxjax.placement.check import violations
from muxjax.placement.problem import Placed, Placement, Problem, UnitPlan
from muxjax.progress import followed
from muxjax.scheduler import router
from muxjax.scheduler.policies import by_name
from muxjax.simulate.sharing import Sharing
from muxjax.simulate.unit import Hosted, Machine, Outcome
from muxjax.workload.trace import Arrival

FEW = 500
"""Requests that are simulated before further processes would have started."""
MOST_RATE_RPS = 1e9
"""Of a replica, for which its unit is to have a share of the cache."""
TOLD = 50
"""Requests that a process ends between two words of its progress."""
NAMED = 8
"""Models that are named in an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One simulated unit, to be run in a process of its own."""

    machine: Machine
    arrivals: Sequence[Arrival]
    policy: str
    sharing: Sharing
    until_s: float

    def run(self, on_end: Callable[[], object] = lambda: None) -> Outcome:
        return self.machine.serve(self.arrivals, by_name(self.policy), self.sharing, self.until_s, on_end=on_end)


def split(
    problem: Problem, placement: Placement, arrivals: Iterable[Arrival], policy: str, sharing: Sharing, until_s: float, **sizes: Any
) -> Iterator[Job]:
    """A job for the LLMs of each unit that have devices in common; replicas get requests as a server's router deals them.

    Args:
      sizes: what else the `Machine`s have other than their defaults.
    """
    machines = [machine(problem, members, unit.pool, **sizes) for unit in placement.units for members in together(unit)]
    requests = route(machines, arrivals)
    for one, own in zip(machines, requests, strict=True):
        yield Job(machine=one, arrivals=own, policy=policy, sharing=sharing, until_s=until_s)


def check(problem: Problem, placement: Placement) -> None:
    """Raises ConfigError for a placement that could not be served. Its rates may be others than the problem's, and it may be unfair."""
    rates: dict[str, float] = {}
    for unit in placement.units:
        for placed in unit.members:
            require(0 < placed.rate_rps <= MOST_RATE_RPS, f"{placed.model}.rate_rps", placed.rate_rps, f"over 0, to {MOST_RATE_RPS:g}")
            rates[placed.model] = rates.get(placed.model, 0.0) + placed.rate_rps
    require(bool(rates), "units", len(placement.units), "units with at least one model")
    for model in rates:
        problem.demand(model)
    demands = [replace(demand, rate_rps=rates[demand.name]) for demand in problem.demands if demand.name in rates]
    if broken := violations(replace(problem, demands=tuple(demands), fairness=float("inf")), placement):
        raise ConfigError("; ".join(broken), field="placement")


def together(unit: UnitPlan) -> list[list[Placed]]:
    """The unit's LLMs, those that share a device, directly or through others, in one list."""
    groups: list[tuple[set[int], list[Placed]]] = []
    for placed in unit.members:
        touching = [group for group in groups if group[0] & set(placed.devices)]
        devices = set(placed.devices).union(*(group[0] for group in touching))
        members = [member for group in touching for member in group[1]]
        groups = [group for group in groups if group not in touching] + [(devices, [*members, placed])]
    return [members for _, members in groups]


def machine(problem: Problem, members: Sequence[Placed], pool: int = 0, **sizes: Any) -> Machine:
    """Those LLMs on their devices, of that pool, with the cache that the fullest device has room for."""
    hosted = {
        placed.model: Hosted(spec=demand.spec, mesh=problem.mesh(demand, placed.tp, pool), rate_rps=placed.rate_rps)
        for placed, demand in ((placed, problem.demand(placed.model)) for placed in members)
    }
    weights: Counter[int] = Counter()
    for placed in members:
        for device in placed.devices:
            weights[device] += roofline.weight_bytes(hosted[placed.model].spec, hosted[placed.model].mesh)
    cache_bytes = problem.device_bytes(pool) - max(weights.values())
    if cache_bytes <= 0:
        raise ConfigError(f"the weights of {', '.join(hosted)} leave {cache_bytes} bytes of a device for the cache", field="placement")
    return Machine(hosted=hosted, cache_bytes=cache_bytes, slots=problem.max_batch, **sizes)


def route(machines: Sequence[Machine], arrivals: Iterable[Arrival]) -> list[list[Arrival]]:
    """The requests of each machine: of an LLM with replicas, the one that the router of a server would give it to.

    Machines are simulated apart, so what a replica has left to do is taken to flow off at its planned rate.

    Raises:
      ConfigError: a request for an LLM that no machine has.
    """
    arrivals = list(arrivals)
    means = _mean_tokens(arrivals)
    hosts: dict[str, list[_Replica]] = {}
    for at, one in enumerate(machines):
        for model, hosted in one.hosted.items():
            hosts.setdefault(model, []).append(_Replica(at, hosted.rate_rps, means.get(model, 0.0)))
    requests: list[list[Arrival]] = [[] for _ in machines]
    strangers = dict.fromkeys(arrival.model for arrival in arrivals if arrival.model not in hosts)
    if strangers:
        told = ", ".join(map(repr, list(strangers)[:NAMED])) + (", ..." if len(strangers) > NAMED else "")
        had = f"the placement has {', '.join(hosts)}; --rename OLD=NEW calls them so"
        raise ConfigError(f"the trace asks for model{'s' * (len(strangers) > 1)} {told}, and {had}", field="trace")
    for arrival in arrivals:
        replicas = hosts[arrival.model]
        chosen = replicas[router.route([replica.at(arrival.time_s) for replica in replicas])]
        chosen.take(arrival.prompt_tokens + arrival.output_tokens)
        requests[chosen.machine].append(arrival)
    return requests


class _Replica:
    """What one place of an LLM has to do, as far as its rate tells."""

    def __init__(self, machine: int, rate_rps: float, mean_tokens: float):
        self.machine = machine
        self._rate_rps, self._tokens_per_s = rate_rps, rate_rps * mean_tokens
        self._outstanding, self._routed, self._last_s = 0.0, 0, 0.0

    def at(self, now_s: float) -> router.Replica:
        """As the router sees it at that time."""
        self._outstanding = max(0.0, self._outstanding - (now_s - self._last_s) * self._tokens_per_s)
        self._last_s = now_s
        return router.Replica(self._outstanding, self._rate_rps, self._routed)

    def take(self, tokens: int) -> None:
        """It gets one more request."""
        self._outstanding += tokens
        self._routed += 1


def _mean_tokens(arrivals: Iterable[Arrival]) -> dict[str, float]:
    """Of a request, by LLM."""
    tokens: Counter[str] = Counter()
    requests: Counter[str] = Counter()
    for arrival in arrivals:
        tokens[arrival.model] += arrival.prompt_tokens + arrival.output_tokens
        requests[arrival.model] += 1
    return {model: tokens[model] / count for model, count in requests.items()}


def outcomes(jobs: Sequence[Job], *, title: str = "simulating", processes: int | None = None) -> list[Outcome]:
    """Outcome of each job, in their order, the largest begun first; shows its progress on standard error.

    Args:
      processes: at most, None for one a processor.
    """
    total = sum(len(job.arrivals) for job in jobs)
    with followed(title, " requests", total, leave=True) as more:
        if len(jobs) == 1 or total <= FEW or processes == 1:
            return [job.run(more) for job in jobs]
        return _beside(jobs, more, processes)


def _beside(jobs: Sequence[Job], progress: Callable[[int], object], processes: int | None) -> list[Outcome]:
    """In processes of their own, which tell of their progress through a queue."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(processes, mp_context=context) as pool:
        words = manager.Queue()
        order = sorted(range(len(jobs)), key=lambda at: -len(jobs[at].arrivals))
        running = {at: pool.submit(_told, jobs[at], words.put) for at in order}
        while not all(future.done() for future in running.values()):
            with suppress(Empty):
                progress(words.get(timeout=0.2))
        return [running[at].result() for at in range(len(jobs))]


def _told(job: Job, tell: Callable[[int], object]) -> Outcome:
    """The job's outcome; tells of the requests that have ended, some at a time."""
    ended = 0
    gc.freeze()  # the trace outlives all that the run makes

    def on_end() -> None:
        nonlocal ended
        ended += 1
        if ended % TOLD == 0:
            tell(TOLD)

    return job.run(on_end)
