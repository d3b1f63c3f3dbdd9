"""A summary for people, beginning with the block that `vllm bench serve` prints, and as JSON under vLLM's keys."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from muxjax.bench.records import Run
from muxjax.bench.summary import Numbers, Summary, Times
from muxjax.units import show_s, show_table

WIDTH = 50
TIMES = {
    "ttft": ("TTFT", "Time to First Token"),
    "tpot": ("TPOT", "Time per Output Token (excl. 1st token)"),
    "itl": ("ITL", "Inter-token Latency"),
    "e2el": ("E2EL", "End-to-end Latency"),
}
"""Kinds of times by vLLM's names, which are fields of `Numbers`: short, and in full."""
_SPREAD: dict[str, Callable[[Numbers], float]] = {
    "requests/s": lambda own: own.throughput.rps,
    "output tokens/s": lambda own: own.throughput.output_tokens_per_s,
    "median TTFT ms": lambda own: own.ttft.percentiles["p50"] * 1e3,
    "p99 TTFT ms": lambda own: own.ttft.percentiles["p99"] * 1e3,
    "median TPOT ms": lambda own: own.tpot.percentiles["p50"] * 1e3,
    "p99 E2EL ms": lambda own: own.e2el.percentiles["p99"] * 1e3,
    "attained": lambda own: math.nan if own.attained is None else own.attained,
}
"""What is told of each seed."""


def text(found: Summary, runs: Sequence[Run]) -> Iterator[str]:
    """All of it."""
    yield from block(found, runs)
    if len(found.models) > 1:
        yield from show_table(list(_model_rows(found)))
    yield from _objectives(found)
    if len(found.seeds) > 1:
        yield from show_table([("over seeds", "mean", "std", "least", "most"), *_seed_rows(found)])
    for error, count in list(found.errors.items())[:5]:
        yield f"{count} failed: {error}"
    yield from verdicts(found)


def block(found: Summary, runs: Sequence[Run]) -> Iterator[str]:
    """Lines as vLLM's users know them; times count from when a request was to be sent."""
    every, rate = found.all, runs[0].begin.rate_rps
    yield _title(" Serving Benchmark Result ", "=")
    yield _line("Successful requests:", every.completed)
    yield _line("Failed requests:", every.demanded - every.completed)
    yield _line("Request rate configured (RPS):", "inf" if rate is None else f"{rate:.2f}")
    yield _line("Benchmark duration (s):", f"{found.duration_s:.2f}")
    yield _line("Total input tokens:", every.prompt_tokens)
    yield _line("Total generated tokens:", every.output_tokens)
    yield _line("Request throughput (req/s):", f"{every.throughput.rps:.2f}")
    if every.good is not None:
        yield _line("Request goodput (req/s):", f"{_per_s(every.good, found.duration_s):.2f}")
    yield _line("Output token throughput (tok/s):", f"{every.throughput.output_tokens_per_s:.2f}")
    yield _line("Peak output token throughput (tok/s):", f"{found.peak_output_tokens_per_s:.2f}")
    yield _line("Peak concurrent requests:", f"{found.peak_requests:.2f}")
    yield _line("Total token throughput (tok/s):", f"{every.throughput.total_tokens_per_s:.2f}")
    for name, (short, long) in TIMES.items():
        own: Times = getattr(every, name)
        yield _title(long, "-")
        yield _line(f"Mean {short} (ms):", f"{own.mean * 1e3:.2f}")
        yield _line(f"Median {short} (ms):", f"{own.percentiles['p50'] * 1e3:.2f}")
        for at in list(own.percentiles)[1:]:
            yield _line(f"{at.upper()} {short} (ms):", f"{own.percentiles[at] * 1e3:.2f}")
    yield "=" * WIDTH


def verdicts(found: Summary) -> Iterator[str]:
    """Whether the numbers may be trusted."""
    lag = found.lag
    late = f"p99 of requests sent {show_s(lag.sent_s)} after their time, of its loop {show_s(lag.loop_s)} late"
    yield f"client: {late}; at most {show_s(lag.limit_s)}"
    if not lag.valid:
        yield "INVALID: the client fell behind, so that the numbers are its own; ask less of it, or have several send (--clients 4)"
    if not found.all.completed:
        yield "FAILED: no request was answered whole"
    if not found.complete:
        yield "INCOMPLETE: the run was ended early; the numbers are of the requests that had ended"


def values(found: Summary, runs: Sequence[Run], **about: Any) -> dict[str, Any]:
    """JSON's: vLLM's keys, and ours behind them."""
    begin, every = runs[0].begin, found.all
    load = {"num_prompts": sum(run.begin.demanded for run in runs), "request_rate": begin.rate_rps or "inf", "max_concurrency": None}
    return {
        "date": begin.date,
        "label": begin.label,
        **load,
        "burstiness": begin.load.get("burstiness"),
        "backend": "openai",
        "endpoint_type": "openai-chat" if begin.path.startswith("/chat") else "openai",
        **about,
        "duration": found.duration_s,
        "completed": every.completed,
        "failed": every.demanded - every.completed,
        "total_input_tokens": every.prompt_tokens,
        "total_output_tokens": every.output_tokens,
        **_values(every, found.duration_s),
        "max_output_tokens_per_s": found.peak_output_tokens_per_s,
        "max_concurrent_requests": found.peak_requests,
        "valid": found.lag.valid,
        "complete": found.complete,
        "lag": asdict(found.lag),
        "fairness": found.fairness,
        "targets": asdict(found.targets),
        "errors": dict(found.errors),
        "models": {
            model: {"demanded": own.demanded, "completed": own.completed, **_values(own, found.duration_s)}
            for model, own in found.models.items()
        },
        "seeds": {name: {"each": each, **_known(spread)} for name, each, spread in _spreads(found)},
    }


def _values(own: Numbers, duration_s: float) -> dict[str, Any]:
    times = {key: value for name in TIMES for key, value in _times(name, getattr(own, name)).items()}
    return {
        "request_throughput": own.throughput.rps,
        "request_goodput": None if own.good is None else _per_s(own.good, duration_s),
        "weighted_request_throughput": own.throughput.weighted_rps,
        "output_throughput": own.throughput.output_tokens_per_s,
        "total_token_throughput": own.throughput.total_tokens_per_s,
        "attainment": own.attained,
        "attainment_by_target": dict(own.within),
        "attainment_by_slo_scale": {f"{scale:g}": share for scale, share in own.scaled.items()},
        **times,
    }


def _times(name: str, own: Times) -> dict[str, float | None]:
    found = {f"mean_{name}_ms": own.mean, f"median_{name}_ms": own.percentiles["p50"], f"std_{name}_ms": own.std}
    found |= {f"{at}_{name}_ms": value for at, value in own.percentiles.items()}
    return _known({key: value * 1e3 for key, value in found.items()})


def _known(values: dict[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else value for key, value in values.items()}


def _spreads(found: Summary) -> Iterator[tuple[str, list[float], dict[str, float]]]:
    for name, of in _SPREAD.items():
        each = [value for _, own in found.seeds if not math.isnan(value := of(own))]
        if each:
            yield name, each, {"mean": float(np.mean(each)), "std": float(np.std(each)), "least": min(each), "most": max(each)}


def _seed_rows(found: Summary) -> Iterator[tuple[str, ...]]:
    for name, _, spread in _spreads(found):
        yield name, *(f"{value:.4g}" for value in spread.values())


def _model_rows(found: Summary) -> Iterator[tuple[str, ...]]:
    yield "model", "requests", "served", "in target", "requests/s", "tokens/s", "TTFT p50", "p99", "TPOT p50", "p99", "E2EL p50", "p99"
    for model, own in found.models.items():
        times = [getattr(own, name).percentiles[at] for name in ("ttft", "tpot", "e2el") for at in ("p50", "p99")]
        shares = "-" if own.attained is None else f"{own.attained:.1%}"
        rates = f"{own.throughput.rps:.4g}", f"{own.throughput.output_tokens_per_s:.5g}"
        yield model, str(own.demanded), str(own.completed), shares, *rates, *("-" if math.isnan(time) else show_s(time) for time in times)


def _objectives(found: Summary) -> Iterator[str]:
    every = found.all
    for name, share in every.within.items():
        yield f"{name.upper()} within {show_s(found.targets.absolute[name])}: {share:.1%}"
    if every.scaled:
        yield "latency within what a request takes alone: " + ", ".join(
            f"{share:.1%} at {scale:g} x" for scale, share in every.scaled.items()
        )
    if every.attained is not None:
        met = "all of these targets" if every.within else f"{found.targets.slo_scale:g} x of what it takes alone"
        yield f"attainment {every.attained:.1%}, goodput {_per_s(every.good or 0, found.duration_s):.4g} requests/s: within {met}"
    yield f"rate-weighted {every.throughput.weighted_rps:.4g} requests/s; Jain index over the models {found.fairness:.3f}"


def _per_s(count: int, duration_s: float) -> float:
    return count / (duration_s or 1.0)


def _title(text: str, fill: str) -> str:
    return f"{text:{fill}^{WIDTH}}"


def _line(name: str, value: object) -> str:
    return f"{name:<40} {value!s:<10}"
