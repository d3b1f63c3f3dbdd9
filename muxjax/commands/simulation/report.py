"""Report of a simulation: all metrics as one value for files, and as text for people."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

from muxjax.placement.problem import Problem
from muxjax.simulate.idle import alone, least_mesh
from muxjax.simulate.unit import Outcome
from muxjax.units import show_s, show_table
from muxjax.workload import metrics
from muxjax.workload.load import Load
from muxjax.workload.metrics import Alone, Served

SHOWN_SCALES = (2, 5, 8, 10, 20)
"""Scales of the objectives in the text: multiples of what a request takes alone."""
OBJECTIVES = {"ttft": "TTFT", "tpot": "time per token", "latency": "latency"}


def numbers(problem: Problem, load: Load, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Every metric of the run, of each LLM, of each unit and in all; a percentile of nothing is None."""
    served = [one for outcome in outcomes for one in outcome.served]
    demanded = Counter(arrival.model for arrival in load.arrivals)
    rates = {demand.name: demand.rate_rps for demand in problem.demands}
    window_s = load.window_s if load.window_s < math.inf else max((one.end_s for one in served), default=load.last_s)
    idle_s = idle(problem)
    models = {
        model: {"demanded": demanded[model], **_of(own, demanded[model], idle_s), "targets": _targets(problem, model, own, demanded[model])}
        for model, own in metrics.by_model(served, rates).items()
        if demanded[model]
    }
    return {
        "window_s": window_s,
        "demanded": demanded.total(),
        "shortened": sum(outcome.shortened for outcome in outcomes),
        **asdict(metrics.throughput(served, rates, window_s or 1.0)),
        "fairness": metrics.fairness(served, demanded),
        **_of(served, demanded.total(), idle_s),
        "models": models,
        "units": [_unit(outcome) for outcome in outcomes],
    }


def text(found: Mapping[str, Any]) -> Iterator[str]:
    """The numbers, for people."""
    rows: list[Sequence[str]] = [("model", "requests", "served", "TTFT p50", "p99", "per token p50", "p99", "latency p50", "p90", "p99")]
    rows += [_row(model, own) for model, own in found["models"].items()]
    yield from show_table([*rows, _row("all", found)])
    yield (
        f"{found['rps']:.4g} requests/s, rate-weighted {found['weighted_rps']:.4g}; {found['output_tokens_per_s']:.5g} output tokens/s of "
        f"{found['total_tokens_per_s']:.5g}; Jain index of served over demanded {found['fairness']:.3f}"
    )
    for objective, name in OBJECTIVES.items():
        shares = found["attainment"][objective]
        yield f"{name} within multiples of what a request takes alone: " + ", ".join(
            f"{shares[scale]:.1%} at {scale} x" for scale in map(str, SHOWN_SCALES)
        )
    for model, own in found["models"].items():
        for objective, target in own["targets"].items():
            yield f"{OBJECTIVES[objective]} of {model} within {show_s(target['seconds'])}: {target['share']:.1%}"
    for unit in found["units"]:
        yield (
            f"cache of {', '.join(unit['models'])}: {unit['cache_mean_frac']:.0%} used in the mean, {unit['cache_peak_frac']:.0%} at most; "
            f"{sum(model['preemptions'] for model in unit['models'].values())} pre-emptions"
        )
    if found["shortened"]:
        yield f"requests that were cut to their models' contexts: {found['shortened']}"


def idle(problem: Problem) -> Callable[[Served], Alone]:
    """Seconds that a request would take on an idle mesh of the least degree that holds its LLM, of the fastest memory there is."""
    pool = max(range(len(problem.cluster.pools)), key=lambda pool: problem.cluster.pools[pool].chip.memory_bytes_per_s)
    meshes = {
        demand.name: least_mesh(demand.spec, problem.mesh(demand, pool=pool), problem.device_bytes(pool)) for demand in problem.demands
    }

    @cache
    def on_mesh(model: str, prompt_tokens: int, context: int) -> Alone:
        return alone(problem.demand(model).spec, meshes[model], prompt_tokens, context)

    return lambda one: on_mesh(one.model, one.prompt_tokens, int(one.prompt_tokens + one.output_tokens / 2))


def _of(served: Sequence[Served], demanded: int, alone: Callable[[Served], Alone]) -> dict[str, Any]:
    attained = asdict(metrics.attainments(served, alone, demanded))
    return {
        "served": len(served),
        **{name: _known(percentiles) for name, percentiles in asdict(metrics.latencies(served)).items()},
        "attainment": {objective: {f"{scale:g}": share for scale, share in shares.items()} for objective, shares in attained.items()},
    }


def _known(percentiles: Mapping[str, float]) -> dict[str, float | None]:
    return {at: None if math.isnan(value) else value for at, value in percentiles.items()}


def _targets(problem: Problem, model: str, served: Sequence[Served], demanded: int) -> dict[str, dict[str, float]]:
    """Targets that the problem names: seconds, and the share of the demanded requests within them."""
    demand = problem.demand(model)
    targets = {"ttft": (demand.ttft_s, [one.ttft_s for one in served]), "tpot": (demand.tpot_s, [one.tpot_s for one in served])}
    return {
        name: {"seconds": target_s, "share": sum(value_s <= target_s for value_s in values_s) / demanded}
        for name, (target_s, values_s) in targets.items()
        if target_s is not None
    }


def _unit(outcome: Outcome) -> dict[str, Any]:
    counts = ("preemptions", "prefill_steps", "decode_steps", "mixed_steps", "prefill_tokens", "decode_tokens", "peak_blocks")
    return {
        "cache_mean_frac": outcome.cache_mean_frac,
        "cache_peak_frac": outcome.cache_peak_frac,
        "total_blocks": outcome.stats.total_blocks,
        "models": {model.name: {name: getattr(model, name) for name in counts} for model in outcome.stats.models},
    }


def _row(name: str, own: Mapping[str, Any]) -> tuple[str, ...]:
    shown = (("ttft_s", "p50"), ("ttft_s", "p99"), ("tpot_s", "p50"), ("tpot_s", "p99"))
    times = [own[of][at] for of, at in (*shown, *(("latency_s", at) for at in ("p50", "p90", "p99")))]
    return name, str(own["demanded"]), str(own["served"]), *("-" if time is None else show_s(time) for time in times)
