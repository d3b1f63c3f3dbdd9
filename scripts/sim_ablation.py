"""What does ADBS gain over round robin and FCFS? The two ablation shapes of MuxServe, in simulation.

    python -m scripts.sim_ablation

Replays them through the real unit and loop, and writes docs/results/adbs-ablation/.
"""

import argparse
import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from muxjax.engine.sim import SERIAL, SPATIAL, Sharing
from muxjax.engine.simulate import Load, Outcome, Scenario, simulate
from muxjax.placement.cost import A100, MeshSpec, weight_bytes
from muxjax.scheduler.policies import by_name
from muxjax.types import ModelSpec
from muxjax.workload.lengths import of_trace
from muxjax.workload.metrics import jain, percentiles, throughput
from scripts import results

QUESTION = "adbs-ablation"
MESH = MeshSpec(chip=A100, tp=4)
MEMORY_FRAC = 0.9
LARGE_SCALES = (1.5, 2.0)
"""Lengths of the large model's requests, in ShareGPT's: the paper tells only the proportions."""
RUNS: tuple[tuple[str, Sharing], ...] = (("adbs", SPATIAL), ("adbs", SERIAL), ("round_robin", SERIAL), ("fcfs", SERIAL))


def llama(layers: int, width: int, heads: int, ffn: int) -> ModelSpec:
    """A first-generation LLaMA, context 2048."""
    return ModelSpec(
        vocab=32000,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=128,
        ffn=ffn,
        max_len=2048,
        windows=(None,) * layers,
    )


MODELS = {
    "LLaMA-7B": llama(32, 4096, 32, 11008),
    "LLaMA-13B": llama(40, 5120, 40, 13824),
    "LLaMA-30B": llama(60, 6656, 52, 17920),
    "LLaMA-65B": llama(80, 8192, 64, 22016),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """An ablation of the paper.

    Args:
      rates: requests a second by model; lengths: relative.
      paper: its throughput by policy.
    """

    title: str
    rates: Mapping[str, float]
    lengths: Mapping[str, float]
    paper: Mapping[str, float]


SHAPES = (
    Shape(
        title="large : mid : small",
        rates={"LLaMA-30B": 2, "LLaMA-13B": 8, "LLaMA-7B": 8},
        lengths={"LLaMA-30B": 2, "LLaMA-13B": 1, "LLaMA-7B": 1},
        paper={"adbs": 6.2, "round_robin": 4.1, "fcfs": 3.8},
    ),
    Shape(
        title="large : small",
        rates={"LLaMA-65B": 1, "LLaMA-30B": 8},
        lengths={"LLaMA-65B": 4, "LLaMA-30B": 1},
        paper={"adbs": 6.6, "round_robin": 4.9, "fcfs": 3.2},
    ),
)


def scenario(shape: Shape, large_scale: float, duration_s: float) -> Scenario:
    """The shape on four A100; the large model's requests are large_scale times as long as ShareGPT's."""
    scales = {name: large_scale * length / max(shape.lengths.values()) for name, length in shape.lengths.items()}
    loads = {
        name: Load(spec=MODELS[name], rate_rps=rate, lengths=of_trace("sharegpt", scale=scales[name])) for name, rate in shape.rates.items()
    }
    weights = sum(weight_bytes(load.spec, MESH) for load in loads.values())
    return Scenario(loads=loads, mesh=MESH, cache_bytes=int(MEMORY_FRAC * A100.memory_bytes) - weights, duration_s=duration_s)


def values(outcome: Outcome, run: Scenario) -> dict:
    """Every number of one run."""
    return {
        **asdict(throughput(outcome.served, run.rates, run.duration_s)),
        "demanded": dict(outcome.demanded),
        "served_over_demanded": outcome.shares,
        "jain": jain(list(outcome.shares.values())),
        "ttft_s": percentiles([one.ttft_s for one in outcome.served]),
        "tpot_s": percentiles([one.tpot_s for one in outcome.served]),
        "latency_s": percentiles([one.latency_s for one in outcome.served]),
        "preemptions": {model.name: model.preemptions for model in outcome.stats.models},
        "quota_blocks": {model.name: model.quota_blocks for model in outcome.stats.models},
    }


def measure(shape: Shape, large_scale: float, policy: str, sharing: Sharing, duration_s: float, seed: int) -> dict:
    """One run as a record."""
    run = scenario(shape, large_scale, duration_s)
    outcome = simulate(run, by_name(policy), sharing, seed)
    config = {
        "shape": shape.title,
        "policy": policy,
        "sharing": asdict(sharing),
        "rates_rps": dict(shape.rates),
        "lengths": dict(shape.lengths),
        "large_scale": large_scale,
        "tp": MESH.tp,
        "cache_bytes_per_device": run.cache_bytes,
        "duration_s": duration_s,
        "slots": run.machine.slots,
        "token_budget": run.machine.token_budget,
        "look_ahead": run.machine.look_ahead,
    }
    return results.run_record(device=f"simulated {MESH.tp} x {A100.name}", config=config, seed=seed, values=values(outcome, run))


def summary(records: list[dict]) -> str:
    """Our numbers beside the paper's."""
    head = (
        "shape",
        "length",
        "policy",
        "device",
        "weighted req/s",
        "paper",
        "plain req/s",
        "tokens/s",
        "served/demanded",
        "Jain",
        "TTFT p99",
        "TPOT p99",
    )
    return results.table(head, [_row(record) for record in records])


def _row(record: dict) -> tuple:
    config, found = record["config"], record["values"]
    shape = next(shape for shape in SHAPES if shape.title == config["shape"])
    return (
        config["shape"],
        f"{config['large_scale']:g} x",
        config["policy"],
        "spatial" if config["sharing"]["spatial"] else "serial",
        f"{found['weighted_rps']:.2f}",
        shape.paper[config["policy"]],
        f"{found['rps']:.2f}",
        f"{found['output_tokens_per_s']:.0f}",
        ", ".join(f"{name.removeprefix('LLaMA-')} {share:.0%}" for name, share in found["served_over_demanded"].items()),
        f"{found['jain']:.2f}",
        f"{found['ttft_s']['p99']:.1f} s",
        f"{found['tpot_s']['p99'] * 1e3:.0f} ms",
    )


def gains(records: list[dict]) -> str:
    """ADBS over the others, ours and the paper's."""
    found = {
        (config["shape"], config["large_scale"], config["policy"], config["sharing"]["spatial"]): record["values"]["weighted_rps"]
        for record in records
        for config in [record["config"]]
    }
    rows = []
    for shape, scale, other in itertools.product(SHAPES, LARGE_SCALES, ("round_robin", "fcfs")):
        paper = shape.paper["adbs"] / shape.paper[other]
        base = found[shape.title, scale, other, False]
        spatial, serial = (found[shape.title, scale, "adbs", lanes] / base for lanes in (True, False))
        rows.append((shape.title, f"{scale:g} x", other, f"{spatial:.2f}", f"{serial:.2f}", f"{paper:.2f}"))
    return results.table(("shape", "length", "ADBS over", "spatial", "serial", "paper"), rows)


README = """
# What does ADBS gain over round robin and FCFS?

The two ablation shapes of MuxServe (arXiv 2404.02015), **simulated**: the real unit, block accounting, loop and policies with a
roofline in place of the device. Made by `python -m scripts.sim_ablation`; every value is in [runs.jsonl](runs.jsonl).

{summary}

"Weighted" is the sum of rate x served requests a second over the models, divided by the sum of rates; the paper's throughput is the
only number in its column.

{gains}

## Assumed
- Four A100-80GB, tensor parallelism 4, {memory_frac:.0%} of the memory for weights and cache. Large, mid and small are taken to be
  LLaMA-30B, 13B and 7B in the first shape, LLaMA-65B and 30B in the second.
- Poisson arrivals for {duration_s:.0f} s from an idle start; requests that have not ended by then count as not served.
- "Length" is how many times as long as ShareGPT's the large model's requests are; the others follow in the given proportion. The paper
  tells the proportions only, and how far the unit is overloaded follows from the lengths: so a moderate and a heavy load are shown.
  These two were chosen after trial runs at 1 to 2 x; at 1 x all but FCFS nearly meet demand. One seed: differences of a few percent
  mean nothing.
- Step costs fitted to the paper's latency profile, to 30 % at worst. FCFS and round robin run one
  job at a time. ADBS is shown twice: "serial" differs
  from them by its decisions alone, "spatial" lets different models' jobs run together (efficiency {efficiency}, from H200 measurements).

## Why our numbers differ from the paper's
- *All rows*: see "length" above. Trust the order of the policies rather than the absolute numbers. A policy that keeps up with demand
  cannot be beaten: under the moderate load round robin and FCFS nearly do, so that little is left to gain but
  latency, and without overlap nothing.
- *Round robin and FCFS do better here*, probably (not isolated) because they batch continuously, take blocks from the same head-wise
  arena, leave a column free for every running sequence, and keep the tokens of pre-empted requests. So ADBS gains less over them.
- *ADBS, serial*: what its decisions gain when jobs cannot overlap. The rest up to "spatial" is the device's.
- *The large model of the second shape* gets more of its demand than the paper's 13 %, probably because quotas here have floors, and are
  moved to the models
  that are saturated in proportion to their floors.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=180.0, metavar="S", help="simulated seconds of each run (default 180)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    records = []
    for shape, scale, (policy, sharing) in itertools.product(SHAPES, LARGE_SCALES, RUNS):
        print(f"{shape.title}, {scale:g} x: {policy}, {'spatial' if sharing.spatial else 'serial'}", flush=True)
        records.append(measure(shape, scale, policy, sharing, args.duration, args.seed))
    results.write_runs(QUESTION, "runs", records)
    text = README.format(
        summary=summary(records),
        gains=gains(records),
        memory_frac=MEMORY_FRAC,
        duration_s=args.duration,
        efficiency=SPATIAL.efficiency,
    )
    results.write_readme(QUESTION, text)
    print(summary(records))


if __name__ == "__main__":
    main()
