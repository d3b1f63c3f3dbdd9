"""MuxServe's comparison of three ways to serve many LLMs, one simulated run at a time. Source: arXiv 2404.02015, section 4.2, figure 5."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from muxjax.cost.chip import A100, Chip, MeshSpec
from muxjax.cost.roofline import Roofline
from muxjax.engine.options import MOST_LANES_UNASKED
from muxjax.placement.candidates import Candidates
from muxjax.placement.greedy import Effort, place
from muxjax.placement.objective import Objective
from muxjax.placement.problem import Cluster, Demand, Placement, Problem
from muxjax.placement.references import baselines
from muxjax.placement.search_space import search_space
from muxjax.simulate.cluster import Job, split
from muxjax.simulate.idle import alone, least_mesh
from muxjax.simulate.sharing import LANES, SERIAL, SPATIAL, Lanes, Serial, Spatial
from muxjax.specs.published import BY_NAME
from muxjax.workload import metrics
from muxjax.workload.arrivals import Poisson
from muxjax.workload.lengths import of_trace
from muxjax.workload.metrics import Alone, Served
from muxjax.workload.popularity import power_law
from muxjax.workload.trace import Arrival, Stream, capped, generate
from scripts import results

SHAPE = {"nodes": 4, "devices_per_node": 8}
CLUSTER = Cluster.uniform(chip=A100, **SHAPE)
SHAPES = ("llama-7b",) * 12 + ("llama-13b",) * 4 + ("llama-30b",) * 2 + ("llama-65b",)
"""Shapes of the LLMs, the most popular first."""
NAMES = tuple(f"{i:02}-{shape}" for i, shape in enumerate(SHAPES))
LENGTHS = of_trace("sharegpt")
TOP_RPS = 20.0
"""Rate of the most popular LLM at rate scale 1."""
ALPHAS, RATE_SCALES = (0.7, 1.3, 1.7, 2.1), (1.0, 1.5, 2.0, 2.5)
"""The paper has 0.9 too; of its runs there most of one system are of another workload."""
MAX_TOKENS = BY_NAME[SHAPES[0]].max_len
SCALES = (2, 3, 5, 8, 10, 15, 20)
"""Scales of the objectives: the paper's results have 3, 8 and 20."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How popular the LLMs are: the i-th of 1, 2, .. has rate_scale * TOP_RPS * i^-alpha requests a second."""

    alpha: float
    rate_scale: float

    @property
    def rates(self) -> dict[str, float]:
        return dict(zip(NAMES, power_law(len(NAMES), self.alpha, self.rate_scale * TOP_RPS), strict=True))


SETTINGS = tuple(Setting(alpha=alpha, rate_scale=rate_scale) for alpha in ALPHAS for rate_scale in RATE_SCALES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Requests come from 0 to arrive_s and the run ends at end_s; throughput is of what ends from warm_s to arrive_s."""

    warm_s: float
    arrive_s: float
    end_s: float


TIMING = Timing(warm_s=10.0, arrive_s=30.0, end_s=40.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A way to serve: where the LLMs are, who is next on a unit, and whether jobs of several LLMs run side by side.

    Args:
      permuted: the number of requests of the LLMs is exchanged as MuxServe's released code does; the placement does not know.
      longer: its timing is so many times as long; speed: of the devices, in those of the A100 that the costs were fitted to.
      max_batch: most sequences of an LLM that decode at a time.
      sharing: with `Lanes`, the placer knows of those that the engine has.
      wide: units of several devices have lanes, too, where the engine takes turns today.
    """

    name: str
    placer: str
    policy: str
    sharing: Serial | Lanes | Spatial
    permuted: bool = False
    longer: float = 1.0
    speed: float = 1.0
    max_batch: int = 256
    wide: bool = True


SPATIAL_BLIND = System(name="spatial", placer="spatial_blind", policy="adbs", sharing=SPATIAL)
SPATIAL_AWARE = System(name="spatial, aware", placer="spatial_aware", policy="adbs", sharing=SPATIAL)
TEMPORAL = System(name="temporal", placer="greedy", policy="fcfs", sharing=SERIAL)
MUX = System(name="mux", placer="greedy", policy="adbs", sharing=SPATIAL)
LANED = System(name="lanes", placer="greedy", policy="mux", sharing=LANES)
SYSTEMS = (SPATIAL_BLIND, SPATIAL_AWARE, TEMPORAL, MUX, LANED)
CAUSES = (
    replace(MUX, name="mux, one replica of each LLM", placer="one_replica"),
    replace(MUX, name="mux, one job at a time", sharing=SERIAL),
    replace(MUX, name="mux, lanes without loss", sharing=Spatial(efficiency=1.0)),
    replace(MUX, name="mux, memory-greedy placement", placer="memory_greedy"),
    replace(MUX, name="mux, requests permuted", permuted=True),
    replace(MUX, name="mux, twice as long", longer=2.0),
    replace(TEMPORAL, name="temporal, round robin", policy="round_robin"),
    replace(TEMPORAL, name="temporal, memory-greedy placement", placer="memory_greedy"),
    replace(SPATIAL_BLIND, name="spatial, requests permuted", permuted=True),
    replace(SPATIAL_BLIND, name="spatial, twice as long", longer=2.0),
    replace(LANED, name="lanes, on one device only", wide=False),
)
"""Each differs in one thing from the system that its name begins with."""
SLOW, SMALL = 0.6, 128
SLOWER = tuple(replace(system, name=f"{system.name}, devices at {SLOW:.0%}", speed=SLOW) for system in (SPATIAL_BLIND, TEMPORAL, MUX))
SMALLER = tuple(
    replace(system, name=f"{system.name}, one replica and batches of {SMALL}", placer=placer, max_batch=SMALL)
    for system, placer in ((SPATIAL_BLIND, "spatial_blind"), (TEMPORAL, "one_replica"), (MUX, "one_replica"))
)
"""Both may be what the paper's systems were limited by; spatial has no replicas anyway."""
STEEP, EVEN = Setting(alpha=2.1, rate_scale=2.5), Setting(alpha=0.7, rate_scale=1.0)
"""Where mux gains most in the paper, and where LLMs are asked most alike; what isolates a cause is run in the first, some also there."""
ALSO_EVEN = ("mux, one job at a time", "mux, lanes without loss", "mux, memory-greedy placement", "lanes, on one device only")

PLACERS: dict[str, Callable[[Problem, Objective, Candidates], Placement]] = {
    "greedy": lambda *space: place(*space).placement,
    "one_replica": lambda problem, objective, candidates: place(problem, objective, candidates, Effort(parts=1)).placement,
    "memory_greedy": baselines.memory_greedy,
    "spatial_blind": baselines.spatial_blind,
    "spatial_aware": baselines.spatial_aware,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A run of one system in one setting."""

    part: str
    setting: Setting
    system: System
    timing: Timing
    seed: int

    @property
    def work(self) -> float:
        """How much there is to simulate, for an order of runs."""
        return sum(self.setting.rates.values()) * self.timing.end_s * self.system.longer

    def record(self) -> dict[str, Any]:
        """Simulates it."""
        question = replace(problem(self.setting, self.system.speed, self.system.max_batch), lanes=self.system.sharing == LANES)
        placement = PLACERS[self.system.placer](question, *search_space(question, Roofline()))
        timing = Timing(**{name: seconds * self.system.longer for name, seconds in asdict(self.timing).items()})
        streams = [
            Stream(model=name, arrivals=Poisson(rate_rps=rate), lengths=LENGTHS)
            for name, rate in arriving(self.setting, self.system).items()
        ]
        arrivals = generate(streams, timing.arrive_s, self.seed)
        jobs = split(question, placement, arrivals, self.system.policy, self.system.sharing, timing.end_s)
        if self.system.sharing == LANES:
            jobs = (on_lanes(job, wide=self.system.wide) for job in jobs)
        served = [one for outcome in map(Job.run, jobs) for one in outcome.served]
        config = {
            "part": self.part,
            **asdict(self.setting),
            "system": self.system.name,
            "placer": self.system.placer,
            "policy": self.system.policy,
            "sharing": shared(self.system.sharing),
            "permuted": self.system.permuted,
            "speed": self.system.speed,
            "max_batch": self.system.max_batch,
            **asdict(timing),
            "units": [[unit.devices, {placed.model: placed.tp for placed in unit.members}] for unit in placement.units],
        }
        values = numbers(question, arrivals, served, timing)
        return results.run_record(device=f"simulated {CLUSTER.devices} x {A100.name}", config=config, seed=self.seed, values=values)


def on_lanes(job: Job, *, wide: bool) -> Job:
    """The job with as many lanes as the engine has for its LLMs; in turns on several devices, if not `wide`."""
    if not wide and any(hosted.mesh.tp > 1 for hosted in job.machine.hosted.values()):
        return replace(job, policy="adbs", sharing=SERIAL)
    return replace(job, machine=replace(job.machine, lanes=min(len(job.machine.hosted), MOST_LANES_UNASKED)))


def shared(sharing: Serial | Lanes | Spatial) -> dict[str, Any]:
    """A sharing in a record."""
    return {"spatial": sharing != SERIAL, "lanes": sharing == LANES, **asdict(sharing)}


def arriving(setting: Setting, system: System) -> dict[str, float]:
    """Requests a second that really come for each LLM."""
    if not system.permuted:
        return setting.rates
    as_strings = sorted(NAMES, key=lambda name: str(NAMES.index(name)))
    return dict(zip(as_strings, setting.rates.values(), strict=True))


def comparisons(timing: Timing, seed: int) -> list[Comparison]:
    """All systems in all settings, and what isolates a cause in some."""
    tasks = [("comparison", setting, system) for setting in SETTINGS for system in SYSTEMS]
    tasks += [("cause", STEEP, system) for system in (*CAUSES, *SLOWER, *SMALLER)]
    tasks += [("cause", EVEN, system) for system in CAUSES if system.name in ALSO_EVEN]
    return [Comparison(part=part, setting=setting, system=system, timing=timing, seed=seed) for part, setting, system in tasks]


def problem(setting: Setting, speed: float = 1.0, max_batch: int = 256) -> Problem:
    """Problem that the placers are asked; every step of the devices takes the time of an A100's, by speed."""
    chip = replace(
        A100,
        compute_frac=A100.compute_frac * speed,
        memory_frac=A100.memory_frac * speed,
        launch_s=A100.launch_s / speed,
        link_bytes_per_s=A100.link_bytes_per_s * speed,
        reduce_s=A100.reduce_s / speed,
    )
    demands = [
        Demand(
            name=name,
            spec=BY_NAME[shape],
            rate_rps=setting.rates[name],
            prompt_tokens=LENGTHS.prompt.mean_tokens,
            output_tokens=LENGTHS.output.mean_tokens,
        )
        for name, shape in zip(NAMES, SHAPES, strict=True)
    ]
    return Problem(demands=tuple(demands), cluster=Cluster.uniform(chip=chip, **SHAPE), max_batch=max_batch, objective="throughput")


def numbers(asked: Problem, arrivals: Sequence[Arrival], served: Sequence[Served], timing: Timing) -> dict[str, Any]:
    """Every number of one run."""
    rates = {demand.name: demand.rate_rps for demand in asked.demands}
    demanded = Counter(arrival.model for arrival in arrivals)
    window_s = timing.arrive_s - timing.warm_s
    steady = [replace(one, end_s=one.end_s - timing.warm_s) for one in served if timing.warm_s < one.end_s <= timing.arrive_s]
    per_model = {model: count / window_s for model, count in metrics.counts(steady, rates).items()}
    idle = partial(idle_alone, asked.cluster.chips[0])
    spent = [(timing.end_s - left.arrival_s) / latency_alone(idle, left) for left in unfinished(arrivals, served, timing.end_s)]
    attained = [metrics.attainments(served, idle, len(arrivals) - sum(times < scale for times in spent), (scale,)) for scale in SCALES]
    return {
        **asdict(metrics.throughput(steady, rates, window_s)),
        "paper_metric": sum(int(rate) * per_model[model] for model, rate in rates.items()) / len(rates),
        "rps_of": per_model,
        "demanded_rps": len(arrivals) / timing.arrive_s,
        "demanded": {model: demanded[model] for model in rates},
        "ended": metrics.counts(served, rates),
        "jain": metrics.fairness(served, demanded),
        "attainment": {
            objective: {str(scale): getattr(found, objective)[scale] for scale, found in zip(SCALES, attained, strict=True)}
            for objective in ("latency", "ttft", "tpot")
        },
        **asdict(metrics.latencies(served)),
        "mean_ttft_s": _mean([one.ttft_s for one in served]),
        "mean_latency_s": _mean([one.latency_s for one in served]),
    }


def unfinished(arrivals: Sequence[Arrival], served: Sequence[Served], end_s: float) -> list[Served]:
    """The requests that had not ended, as if they had then."""
    ended = Counter((one.model, one.arrival_s) for one in served)
    left = []
    for arrival in capped(arrivals, MAX_TOKENS):
        if ended[arrival.model, arrival.time_s]:
            ended[arrival.model, arrival.time_s] -= 1
        else:
            left.append(
                Served(
                    model=arrival.model,
                    prompt_tokens=arrival.prompt_tokens,
                    output_tokens=arrival.output_tokens,
                    arrival_s=arrival.time_s,
                    first_s=end_s,
                    end_s=end_s,
                )
            )
    return left


def latency_alone(idle: Callable[[Served], Alone], one: Served) -> float:
    """Seconds of the whole request on an idle mesh."""
    seconds = idle(one)
    return seconds.prefill_s + one.output_tokens * seconds.decode_s


def idle_alone(chip: Chip, one: Served) -> Alone:
    """Seconds that the request would take on an idle mesh of the least degree that holds its LLM."""
    spec = BY_NAME[SHAPES[NAMES.index(one.model)]]
    mesh = least_mesh(spec, MeshSpec(chip=chip), chip.memory_bytes)
    return alone(spec, mesh, one.prompt_tokens, int(one.prompt_tokens + one.output_tokens / 2))


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan
