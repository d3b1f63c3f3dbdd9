"""What does prefix caching bring where prompts begin alike?

    python -m scripts.bench_prefix

The preset `agent-prefix` on three models that share a simulated H200, with prefix caching and without it, at several rates, and
with less room for the cache. Writes docs/results/prefix-cache/.
"""

import argparse
import time

from muxjax.cost.chip import H200, MeshSpec
from muxjax.scheduler.policies import by_name
from muxjax.simulate.sharing import SERIAL
from muxjax.simulate.unit import Hosted, Machine, Outcome
from muxjax.specs.published import BY_NAME
from muxjax.workload import presets
from muxjax.workload.metrics import percentiles
from muxjax.workload.trace import Arrival
from scripts import results

QUESTION = "prefix-cache"
SHAPE, WORKLOAD, POLICY = "llama-3.1-8b", "agent-prefix", "adbs"
MAX_TOKENS = 16384
RATE_SCALES = (0.4, 0.7, 1.0)
TOLD_SCALE = 0.7
CACHE_GB, SCARCE_GB = 75.0, 20.0
DRAIN_S = 60.0


def machine(rates: dict[str, float], cache_gb: float, *, caching: bool) -> Machine:
    """All models on one device, whose weights leave so much for the cache."""
    mesh = MeshSpec(chip=H200, tp=1)
    hosted = {name: Hosted(spec=BY_NAME[SHAPE], mesh=mesh, rate_rps=rate) for name, rate in rates.items()}
    return Machine(hosted=hosted, cache_bytes=int(cache_gb * 1e9), max_tokens=MAX_TOKENS, prefix_caching=caching)


def measure(rate_scale: float, cache_gb: float, duration_s: float, seed: int, *, caching: bool) -> dict:
    """A trace through the scheduler, cache and loop that serve, in virtual time."""
    workload = presets.by_name(WORKLOAD, rate_scale=rate_scale)
    one, trace = machine(workload.rates, cache_gb, caching=caching), workload.trace(duration_s, seed)
    start_s = time.perf_counter()
    outcome = one.serve(trace, by_name(POLICY), SERIAL, duration_s + DRAIN_S)
    return {"seconds": time.perf_counter() - start_s, "possible": possible(one.cut(trace)), **numbers(outcome, duration_s)}


def possible(trace: list[Arrival]) -> float:
    """Share of the prompt tokens that stand in a beginning which an earlier request had."""
    seen, tokens = set(), 0
    for arrival in trace:
        beginning = arrival.model, arrival.prefix_group
        tokens += arrival.prefix_tokens if beginning in seen else 0
        seen.add(beginning)
    return tokens / sum(arrival.prompt_tokens for arrival in trace)


def numbers(outcome: Outcome, duration_s: float) -> dict:
    """Numbers of all models together."""
    served, models = outcome.served, outcome.stats.models
    ended = [one for one in served if one.end_s <= duration_s]
    return {
        "demanded": sum(outcome.demanded.values()),
        "served": len(served),
        "rps": len(ended) / duration_s,
        "tokens_per_s": sum(one.prompt_tokens + one.output_tokens for one in ended) / duration_s,
        "ttft_s": percentiles([one.ttft_s for one in served], (50, 90, 99)),
        "tpot_s": percentiles([one.tpot_s for one in served], (50, 90, 99)),
        "queries": sum(model.prefix_queries for model in models),
        "hits": sum(model.prefix_hits for model in models),
        "prefill_tokens": sum(model.prefill_tokens for model in models),
        "evicted_blocks": sum(model.evicted_blocks for model in models),
        "preemptions": sum(model.preemptions for model in models),
        "cache_mean_frac": outcome.cache_mean_frac,
    }


def summary(records: list[dict]) -> str:
    """A row a run."""
    head = (
        "requests",
        "cache",
        "prefix caching",
        "hit rate",
        "possible",
        "served in time",
        "req/s",
        "tokens/s",
        "TTFT p50",
        "TTFT p99",
        "TPOT p50",
        "TPOT p99",
        "prompt tokens computed",
        "pre-emptions",
    )
    return results.table(head, [_row(record["config"], record["values"]) for record in records])


def _row(config: dict, found: dict) -> tuple:
    return (
        f"{found['demanded']:,} (rate x {config['rate_scale']:g})",
        f"{config['cache_gb']:g} GB",
        "on" if config["caching"] else "off",
        f"{hit_rate(found):.1%}",
        f"{found['possible']:.1%}",
        f"{found['served'] / found['demanded']:.1%}",
        f"{found['rps']:.2f}",
        f"{found['tokens_per_s']:,.0f}",
        f"{found['ttft_s']['p50']:.2f} s",
        f"{found['ttft_s']['p99']:.2f} s",
        f"{found['tpot_s']['p50'] * 1e3:.0f} ms",
        f"{found['tpot_s']['p99'] * 1e3:.0f} ms",
        f"{found['prefill_tokens'] / 1e6:.2f} M",
        found["preemptions"],
    )


def hit_rate(found: dict) -> float:
    return found["hits"] / found["queries"] if found["queries"] else 0.0


README = """
# What does prefix caching bring where prompts begin alike?

The preset `{workload}` (three models; prompts of Mooncake's lengths, cut to {max_tokens:,} tokens; 64 beginnings of 2,048 tokens a model,
chosen by a power law) on three {shape} that share one simulated H200 under {policy}, with the same scheduler, cache and loop that
serve. Requests come for {duration:g} s. Made by `python -m scripts.bench_prefix`; every value is in [runs.jsonl](runs.jsonl).

{summary}

**{answer}**

"Hit rate" is the share of the admitted prompts' tokens that were in the cache; "possible" is the share that stands in a beginning which
an earlier request had, the most that any cache could hit. "Served in time": ended within {drain:g} s of the last arrival; times are of
those. The trace tells of beginnings alone: answers that come back in a next turn's prompt, which the cache finds too, are not in it.
"""


def answer(records: list[dict]) -> str:
    """Answer of the runs with TOLD_SCALE of the preset's rate."""
    told = [record for record in records if (record["config"]["rate_scale"], record["config"]["cache_gb"]) == (TOLD_SCALE, CACHE_GB)]
    by_caching = {record["config"]["caching"]: record["values"] for record in told}
    on, off = by_caching[True], by_caching[False]
    ratio = on["ttft_s"]["p50"] / off["ttft_s"]["p50"]
    return (
        f"At {TOLD_SCALE:g} of the preset's rate {hit_rate(on):.1%} of the prompt tokens are found "
        f"({on['possible']:.1%} could be), the median time to the first token is {ratio:.0%} of what it is without, "
        f"the 99th percentile {on['ttft_s']['p99'] / off['ttft_s']['p99']:.0%}, and "
        f"{on['rps'] / off['rps'] - 1:+.1%} requests a second are served."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    records = []
    for rate_scale, cache_gb in [*((scale, CACHE_GB) for scale in RATE_SCALES), (TOLD_SCALE, SCARCE_GB)]:
        for caching in (False, True):
            values = measure(rate_scale, cache_gb, args.duration, args.seed, caching=caching)
            config = {
                "workload": WORKLOAD,
                "shape": SHAPE,
                "models": 3,
                "chip": H200.name,
                "policy": POLICY,
                "rate_scale": rate_scale,
                "cache_gb": cache_gb,
                "caching": caching,
                "duration_s": args.duration,
                "max_tokens": MAX_TOKENS,
            }
            records.append(results.run_record(device=results.host(), config=config, seed=args.seed, values=values))
            print(summary(records[-1:]), flush=True)
    results.write_runs(QUESTION, "runs", records)
    text = README.format(
        workload=WORKLOAD,
        max_tokens=MAX_TOKENS,
        shape=SHAPE,
        policy=POLICY.upper(),
        duration=args.duration,
        drain=DRAIN_S,
        summary=summary(records),
        answer=answer(records),
    )
    results.write_readme(QUESTION, text)


if __name__ == "__main__":
    main()
