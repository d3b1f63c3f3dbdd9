"""Does the simulator say what the engine does on one H200, and what do sizes of steps waste?

    python -m scripts.bench_simulator            # writes docs/results/simulator-truth/ (minutes on one core)
    python -m scripts.bench_simulator --page     # only rewrites the page from the lines there are

Three models in turns under the preset llama-trio, x1 for 40 s and the same requests in a third of the time, each seed another draw.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muxjax.buckets import Buckets
from muxjax.cache.layout import CacheLayout
from muxjax.cost.chip import H200, MeshSpec
from muxjax.cost.measured import shipped
from muxjax.scheduler.policies import by_name
from muxjax.simulate.sharing import LANES, SERIAL
from muxjax.simulate.unit import Hosted, Machine
from muxjax.specs.published import BY_NAME
from muxjax.workload import presets
from muxjax.workload.metrics import Served, percentiles
from scripts import results

QUESTION, TRIO = "simulator-truth", "llama-trio"
TRACE_S, DRAIN_S = 40.0, 120.0
CACHE_BYTES = 95 * 10**9
"""What the weights leave of nine tenths of an H200."""
LOADS = {"x1": 1.0, "x3": 3.0}
SEEDS = (1, 2, 3)
TTFT_S, TPOT_S = 1.0, 0.05
GOAL = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How the models share the device."""

    policy: str
    lanes: int = 1
    prefill_rows: int = 8

    @property
    def name(self) -> str:
        return f"{self.policy}, {'turns' if self.lanes == 1 else 'lanes'}, {self.prefill_rows} prompts a step"


TURNS = Way(policy="adbs")
FULLER = Way(policy="adbs", prefill_rows=32)
WAYS = (
    TURNS,
    Way(policy="round_robin"),
    FULLER,
    Way(policy="adbs", lanes=3),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true")
    if not parser.parse_args().page:
        records = [run(way, load, seed) for way in WAYS for load in LOADS for seed in SEEDS]
        results.write_runs(QUESTION, "runs", records)
    measured = json.loads((results.RESULTS / QUESTION / "measured-turns.json").read_text())
    text = page(results.read_runs(QUESTION), measured)
    results.write_readme(QUESTION, text)
    print(text)


def run(way: Way, load: str, seed: int) -> dict[str, Any]:
    """One simulated run as a line."""
    scale, workload = LOADS[load], presets.by_name(TRIO)
    arrivals = [arrival._replace(time_s=arrival.time_s / scale) for arrival in workload.trace(TRACE_S, seed)]
    mesh = MeshSpec(chip=H200)
    hosted = {one.model: Hosted(spec=BY_NAME[one.shape or ""], mesh=mesh, rate_rps=one.arrivals.rate_rps) for one in workload.streams}
    machine = Machine(
        hosted=hosted, cache_bytes=CACHE_BYTES, measured=shipped(H200), max_tokens=8448, lanes=way.lanes, prefill_rows=way.prefill_rows
    )
    outcome = machine.serve(arrivals, by_name(way.policy), SERIAL if way.lanes == 1 else LANES, TRACE_S + DRAIN_S)
    values = measures(outcome.served) | {"padding": outcome.padding_frac, "unserved": len(arrivals) - len(outcome.served)}
    return results.run_record(device=results.host(), config={"way": way.name, "load": load}, seed=seed, values=values)


def measures(served: Sequence[Served]) -> dict[str, float]:
    """The figures that were measured too."""
    ttft = percentiles([one.ttft_s for one in served])
    good = sum(one.ttft_s <= TTFT_S and one.tpot_s <= TPOT_S for one in served)
    tpots = {model: statistics.median(one.tpot_s for one in served if one.model == model) for model in ("8b", "3b", "1b")}
    return {
        "requests_per_s": len(served) / max(one.end_s for one in served),
        "ttft_p50_s": ttft["p50"],
        "ttft_p99_s": ttft["p99"],
        **{f"tpot_{model}_s": value for model, value in tpots.items()},
        "attainment": good / len(served),
    }


def page(runs: Sequence[dict[str, Any]], measured: Mapping[str, Any]) -> str:
    """The answer for people: errors of turns, other ways, and what sizes of steps there are."""
    ways = list(dict.fromkeys(run["config"]["way"] for run in runs))
    errors = [error(load, figure, runs, value) for load in LOADS for figure, value in measured[load].items()]
    within = sum(abs(line[-1]) <= GOAL for line in errors)
    said = [(*line[:2], *map("{:.4g}".format, line[2:5]), f"{line[5]:+.1%}") for line in errors]
    other = [(load, way, *(f"{mean(runs, way, load, figure):.4g}" for figure in OTHER)) for load in LOADS for way in ways]
    return "\n\n".join(
        [
            HEAD.format(source=measured["source"]),
            f"{within} of {len(errors)} figures are within {GOAL:.0%}.",
            results.table(("load", "figure", "measured", "simulated", "+/-", "error"), said),
            "## Other ways, simulated",
            results.table(("load", "way", *OTHER), other),
            policies(runs),
            "## Sizes of steps",
            sizes(runs),
        ]
    )


HEAD = """# Does the simulator say what the engine does on one H200?

LLaMA 3's 8B, 3B and 1B in turns (one lane, ADBS, 8 prompts a step, 256 sequences a model): Poisson arrivals of 20, 24 and 48 requests a
second for 40 s (x1), and the same in a third of the time (x3). Simulated: other draws of the same kind (the preset `llama-trio`), means of
the seeds and half the range between them, with today's sizes of steps. Lanes share the device equally in the simulator, which a prefill
beside a decode does not do. Measured: {source} Command: `python -m scripts.bench_simulator`. Times in seconds."""
OTHER = ("requests_per_s", "ttft_p50_s", "ttft_p99_s", "tpot_8b_s", "tpot_3b_s", "tpot_1b_s", "padding")


def values(runs: Sequence[dict[str, Any]], way: str, load: str, figure: str) -> list[float]:
    return [run["values"][figure] for run in runs if run["config"] == {"way": way, "load": load}]


def mean(runs: Sequence[dict[str, Any]], way: str, load: str, figure: str) -> float:
    return statistics.mean(values(runs, way, load, figure))


def error(load: str, figure: str, runs: Sequence[dict[str, Any]], measured: float) -> tuple[str, str, float, float, float, float]:
    """A figure of a load: measured, simulated, half the range over seeds, relative error."""
    found = values(runs, TURNS.name, load, figure)
    said = statistics.mean(found)
    return load, figure, measured, said, (max(found) - min(found)) / 2, said / measured - 1


def policies(runs: Sequence[dict[str, Any]]) -> str:
    """Whether round robin or ADBS serves more at saturation."""
    rates = {way: mean(runs, way.name, "x3", "requests_per_s") for way in WAYS}
    robin = next(rate for way, rate in rates.items() if way.policy == "round_robin")
    told = ", ".join(f"{way.name}: {rate:.1f}" for way, rate in rates.items())
    return f"""## Does round robin serve more than ADBS at saturation?

Requests a second at x3: {told}. With the engine's padding, host time and limit of prompts a step, round robin serves
{robin / rates[TURNS] - 1:+.1%} beside ADBS with as many prompts a step,
and {robin / rates[FULLER] - 1:+.1%} beside ADBS with {FULLER.prefill_rows}. So most of the
difference goes with the limit of prompts: ADBS has one prefill in flight for all models and every decode goes with it, so that few prompts
a step keep its batches small; round robin prefills whenever it is a model's turn, and fills them at the expense of the time between
tokens. One comparison in one model of a device shows no more than that."""


def sizes(runs: Sequence[dict[str, Any]]) -> str:
    """What the ladders are, and the share of padding."""
    layout = CacheLayout.of(BY_NAME["llama-3.1-8b"], element_bytes=2)
    buckets = Buckets.of(layout, slots=256, max_tokens=8448, token_budget=2048, prefill_rows=8, ragged=True)
    padding = {way.name: mean(runs, way.name, "x1", "padding") for way in WAYS}
    told = ", ".join(f"{name}: {share:.1%}" for name, share in padding.items())
    return f"""{len(buckets.shapes())} sizes for the 8B with 256 slots: decode rows {buckets.decode_rows}, rows that decode beside chunks
{buckets.mixed_rows}, tokens of chunks {buckets.prefill_tokens}.

Padding of the tokens computed at x1: {told}."""


if __name__ == "__main__":
    main()
