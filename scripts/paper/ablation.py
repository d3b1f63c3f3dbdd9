"""MuxServe's two ablations of ADBS, and what isolates a cause in them, one simulated run at a time. Source: arXiv 2404.02015, 4.3."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from muxjax.cost.chip import A100, MeshSpec
from muxjax.cost.roofline import weight_bytes
from muxjax.scheduler.policies import by_name
from muxjax.scheduler.view import Job, Policy, StepPlan, View
from muxjax.simulate.sharing import SERIAL, SPATIAL, Serial, Spatial
from muxjax.simulate.unit import Load, Outcome, Scenario, simulate
from muxjax.specs.published import BY_NAME
from muxjax.workload.lengths import of_trace
from muxjax.workload.metrics import jain, latencies, throughput
from scripts import results

MESH = MeshSpec(chip=A100, tp=4)
MEMORY_FRAC = 0.9
LARGE_SCALES = (1.5, 2.0)
"""Lengths of the large model's requests, in ShareGPT's: the paper tells only the proportions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """An ablation of the paper.

    Args:
      rates: requests a second by model, the largest first; lengths: relative.
      paper: its throughput by policy.
    """

    title: str
    rates: Mapping[str, float]
    lengths: Mapping[str, float]
    paper: Mapping[str, float]


SHAPES = (
    Shape(
        title="large : mid : small",
        rates={"llama-30b": 2, "llama-13b": 8, "llama-7b": 8},
        lengths={"llama-30b": 2, "llama-13b": 1, "llama-7b": 1},
        paper={"adbs": 6.2, "round_robin": 4.1, "fcfs": 3.8},
    ),
    Shape(
        title="large : small",
        rates={"llama-65b": 1, "llama-30b": 8},
        lengths={"llama-65b": 4, "llama-30b": 1},
        paper={"adbs": 6.6, "round_robin": 4.9, "fcfs": 3.2},
    ),
)


def apart(policy: Policy) -> Policy:
    """The policy with a step for prompts and one for tokens, where ours reads the weights once for both."""

    def decide(view: View) -> StepPlan:
        plan = policy(view)
        return replace(plan, jobs=tuple(_prompts_only(job) for job in plan.jobs))

    return decide


def without_floors(policy: Policy) -> Policy:
    """The policy, free to move a model's quota down to nothing."""
    return lambda view: policy(replace(view, models=tuple(replace(model, floor_blocks=0) for model in view.models)))


def with_fixed_quotas(policy: Policy) -> Policy:
    """The policy with the quotas that it began with."""
    return lambda view: replace(policy(view), quotas={})


def without_quotas(policy: Policy) -> Policy:
    """The policy, every model of which may have the whole arena."""
    return lambda view: replace(
        policy(replace(view, models=tuple(replace(model, quota_blocks=view.total_blocks) for model in view.models))), quotas={}
    )


VARIANTS: dict[str, Callable[[Policy], Policy]] = {
    "": lambda policy: policy,
    "prompts apart": apart,
    "quotas without floors": without_floors,
    "fixed quotas": with_fixed_quotas,
    "no quotas": without_quotas,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """A run of one policy on the shape; the large model's requests are large_scale times as long as ShareGPT's."""

    shape: Shape
    large_scale: float
    policy: str
    sharing: Serial | Spatial
    duration_s: float
    seed: int
    variant: str = ""

    @property
    def work(self) -> float:
        """How much there is to simulate, for an order of runs."""
        return sum(self.shape.rates.values()) * self.duration_s

    def record(self) -> dict[str, Any]:
        """Simulates it."""
        scenario = self.scenario
        policy = VARIANTS[self.variant](by_name(self.policy))
        outcome = simulate(scenario, policy, self.sharing, self.seed)
        config = {
            "part": "ablation",
            "shape": self.shape.title,
            "policy": self.policy,
            "variant": self.variant,
            "sharing": {"spatial": self.sharing != SERIAL, **asdict(self.sharing)},
            "rates_rps": dict(self.shape.rates),
            "lengths": dict(self.shape.lengths),
            "large_scale": self.large_scale,
            "tp": MESH.tp,
            "cache_bytes_per_device": scenario.cache_bytes,
            "duration_s": self.duration_s,
        }
        device = f"simulated {MESH.tp} x {A100.name}"
        return results.run_record(device=device, config=config, seed=self.seed, values=_numbers(outcome, scenario))

    @property
    def scenario(self) -> Scenario:
        """The unit and its load."""
        longest = max(self.shape.lengths.values())
        loads = {
            name: Load(spec=BY_NAME[name], rate_rps=rate, lengths=of_trace("sharegpt", scale=self.large_scale * length / longest))
            for (name, rate), length in zip(self.shape.rates.items(), self.shape.lengths.values(), strict=True)
        }
        weights = sum(weight_bytes(load.spec, MESH) for load in loads.values())
        cache_bytes = int(MEMORY_FRAC * A100.memory_bytes) - weights
        return Scenario(loads=loads, mesh=MESH, cache_bytes=cache_bytes, duration_s=self.duration_s)


def ablations(duration_s: float, seed: int) -> list[Ablation]:
    """All policies on both shapes under both loads; under the heavier one also what isolates a cause."""

    def on(shape: Shape, scale: float, policy: str, sharing: Serial | Spatial, variant: str = "") -> Ablation:
        return Ablation(shape=shape, large_scale=scale, policy=policy, sharing=sharing, duration_s=duration_s, seed=seed, variant=variant)

    ways = (("adbs", SPATIAL), ("adbs", SERIAL), ("round_robin", SERIAL), ("fcfs", SERIAL))
    heavy = LARGE_SCALES[-1]
    runs = [on(shape, scale, *way) for shape in SHAPES for scale in LARGE_SCALES for way in ways]
    runs += [on(shape, heavy, *way, "prompts apart") for shape in SHAPES for way in ways]
    quotas = [variant for variant in VARIANTS if "quotas" in variant]
    return runs + [on(shape, heavy, "adbs", SPATIAL, variant) for shape in SHAPES for variant in quotas]


def _prompts_only(job: Job) -> Job:
    return replace(job, decode=False, grow=0) if job.chunks else job


def _numbers(outcome: Outcome, scenario: Scenario) -> dict[str, Any]:
    """Every number of one run."""
    return {
        **asdict(throughput(outcome.served, scenario.rates, scenario.duration_s)),
        "demanded": dict(outcome.demanded),
        "served_over_demanded": outcome.shares,
        "jain": jain(list(outcome.shares.values())),
        **asdict(latencies(outcome.served)),
        "preemptions": {model.name: model.preemptions for model in outcome.stats.models},
        "quota_blocks": {model.name: model.quota_blocks for model in outcome.stats.models},
    }
