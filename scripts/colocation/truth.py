"""The page of `scripts.bench_simulator`: how far each figure is from the engine's, and what round robin gains."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from muxjax.buckets import Buckets
from muxjax.cache.layout import CacheLayout
from muxjax.cost.contention import HIDDEN
from muxjax.specs.published import BY_NAME
from scripts import results
from scripts.colocation import ways

GOAL = 0.1
FIGURES = ("requests_per_s", "tokens_per_s", "ttft_p50_s", "ttft_p99_s", "tpot_8b_s", "tpot_3b_s", "tpot_1b_s", "attainment", "padding")
BURST_FIGURES = ("tokens_per_s", "tpot_8b_s", "tpot_3b_s", "tpot_1b_s")
"""Of loads that come all at once: their first tokens wait for the clients, who ask one after another."""
POLICY_FIGURES = ("rows_per_s", "prompt_tokens_per_s", "requests_per_s", "tpot_8b_s", "tpot_1b_s", "attainment")
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Of so many values, half a 95 % interval of their mean over its standard error."""

Record = Mapping[str, Any]


def page(runs: Sequence[Record], measured: Record) -> str:
    """The answer for people."""
    own = [run for run in runs if run["config"]["part"] == "recorded"]
    traces = [line for load in ("x1", "x3") for way in ("turns", "mux") for line in compared(own, measured, way, load, FIGURES)]
    bursts = [
        line
        for load in ("decodes", "long prompts")
        for way in ("turns", "mux")
        for line in compared(own, measured, way, load, BURST_FIGURES)
    ]
    return "\n\n".join(
        [
            HEAD.format(commit=measured["commit"], device=measured["device"]),
            verdict(traces),
            results.table(("way", "load", *COLUMNS), map(shown, traces)),
            "## Loads that come all at once",
            f"{verdict(bursts)} {FITTED}",
            results.table(("way", "load", *COLUMNS[:-1]), [shown(line)[:-1] for line in bursts]),
            MODEL.format(hidden=HIDDEN),
            results.table(("load", "steps", "number measured", "simulated", "ms measured", "simulated", "error"), steps(own, measured)),
            DIFFERENCES,
            policies([run for run in runs if run["config"]["part"] == "policies"]),
            padding(),
        ]
    )


HEAD = """# Does the simulator say what the engine does on one H200?

LLaMA 3's 8B, 3B and 1B in turns (one lane, ADBS) and in lanes (`mux`), as [colocation](../colocation/README.md) has them: the engine's
runs on an {device} at commit {commit}, against the simulator fed the very same requests, with the engine's slots, limits, targets and
cache.
"Other draws" are simulated too, four with other seeds, as the mean and its 95 % interval: how much the requests alone decide. A figure
that was measured twice is its mean here. Command: `python -m scripts.bench_simulator`."""
COLUMNS = ("figure", "measured", "simulated", "error", "other draws")


def compared(runs: Iterable[Record], measured: Record, way: str, load: str, figures: Iterable[str]) -> list[tuple]:
    """Lines of way, load, figure, measured, simulated, error, and the other draws' values."""
    truths = measured_values(measured, way, load)
    own = [run for run in runs if (run["config"]["way"], run["config"]["load"]) == (way, load)]
    same = next(run["values"] for run in own if run["seed"] == 1)
    lines = []
    for figure in figures:
        if figure in same:
            truth = statistics.fmean(values[figure] for values in truths)
            others = [run["values"][figure] for run in own if run["seed"] != 1]
            lines.append((way, load, figure, truth, same[figure], same[figure] / truth - 1, others))
    return lines


def measured_values(measured: Record, way: str, load: str) -> list[Record]:
    return [run["values"] for run in measured["runs"] if (run["way"], run["load"]) == (way, load)]


def verdict(lines: Sequence[tuple]) -> str:
    within = sum(abs(line[5]) <= GOAL for line in lines)
    return f"**{within} of {len(lines)} figures are within {GOAL:.0%}.**"


def shown(line: tuple) -> tuple[str, ...]:
    way, load, figure, truth, simulated, error, others = line
    return way, load, figure, f"{truth:.4g}", f"{simulated:.4g}", f"{error:+.1%}", interval(others) if others else ""


def interval(values: Sequence[float]) -> str:
    """Mean of the values, and half a 95 % interval of it."""
    half = STUDENT[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.fmean(values):.4g} ± {half:.2g}"


FITTED = """The one constant was fitted to `decodes` under `mux`, and the rest of the model decided, in sight of runs at commit 27b4dd6,
whose steps had other sizes. Of the runs that stand here nothing was decided."""

MODEL = """## What the model is made of

- A step alone: the single steps of `muxjax/cost/tables/h200.json`, at the size that the engine pads it to. A step of prompts and decodes
  costs what a prefill of all its rows does, and the reading of its decodes' context on top: kernels of a step run one after another
  ([step-profile](../step-profile/README.md): products and attention of a decode add up to the step).
- Beside each other (`muxjax/cost/contention.py`): the device takes kernels of its lanes in turn, so that a lane has the share of the time
  that its layers take. The one constant that comes from runs of several models is that {hidden:g} of the overhead of a step that waits
  for memory is no loss beside others, from the times between tokens of `decodes` under `mux`. What is left to a decode beside a prefill
  follows from that, and is what [products](../products/README.md) measured on cuBLAS.
- The host: the median turn of [scheduler-turn](../scheduler-turn/README.md), a step's share of it. Rows, blocks, quotas and policies: the
  engine's own code.

Steps under `mux`, with whatever ran beside them:"""


def steps(runs: Iterable[Record], measured: Record) -> list[tuple[str, ...]]:
    """Steps of `mux` under the two traces, measured (the last run) and simulated; those of which there are few are left out."""
    own = {run["config"]["load"]: run["values"]["steps"] for run in runs if run["config"]["way"] == "mux" and run["seed"] == 1}
    lines = []
    for load in ("x1", "x3"):
        truth = measured_values(measured, "mux", load)[-1]["steps"]
        for kind in sorted(truth.keys() & own[load].keys(), key=lambda kind: (kind.split()[1], kind)):
            real, said = truth[kind], own[load][kind]
            if real["steps"] >= 100:
                times = f"{1e3 * real['seconds']:.2f}", f"{1e3 * said['seconds']:.2f}", f"{said['seconds'] / real['seconds'] - 1:+.1%}"
                lines.append((load, kind, str(real["steps"]), str(said["steps"]), *times))
    return lines


DIFFERENCES = """## Where the differences come from

- Under `mux` at x3 the first token's median lies between the 1B's requests, who wait for tens of milliseconds, and the others', who wait
  for seconds: a few requests more on one side move it far. What is within target moves with it, since the queue is what is left over of
  two nearly equal numbers.
- Steps with prompts beside other lanes take longer than simulated (the table above), decodes hardly. That makes the tails of first tokens
  longer, and an overload that lasts longer; which kernels it is would take a trace of the device.
- In turns at x3, rounds of some 350 rows take longer than the table says (the times between tokens), at x1 with half as many rows they do
  not. The table has no decodes between 64 and 256 rows, which is where these lie: measuring some would tell."""


def policies(runs: Sequence[Record]) -> str:
    """Whether round robin or ADBS serves more at saturation."""
    names = list(dict.fromkeys(run["config"]["way"] for run in runs))
    values = {name: [run["values"] for run in runs if run["config"]["way"] == name] for name in names}
    rows = [(name, *(interval([one[figure] for one in values[name]]) for figure in POLICY_FIGURES)) for name in names]
    return f"""## Does round robin serve more than ADBS at saturation?

Arrivals at x3 that do not end, so that no tail of long answers counts, and 15 s of them after 5 in which batches grow, with today's sizes
of steps; means of {len(values[names[0]])} seeds and their 95 % intervals. Rows a second are the tokens that steps make, of answers that do
not end in this time as well; requests and what is within target are of those that end in it, which favours whoever serves short answers.

{results.table(("way", *POLICY_FIGURES), rows)}

{gain(values["round robin"], values["adbs"])}"""


def gain(robin: Sequence[Record], adbs: Sequence[Record]) -> str:
    """Round robin over ADBS, seed by seed."""
    told = []
    for figure in ("rows_per_s", "prompt_tokens_per_s", "tpot_8b_s"):
        ratios = [one[figure] / two[figure] - 1 for one, two in zip(robin, adbs, strict=True)]
        half = STUDENT[len(ratios)] * statistics.stdev(ratios) / math.sqrt(len(ratios))
        told.append(f"{figure} {statistics.fmean(ratios):+.1%} ± {half:.1%}")
    return f"Round robin against ADBS, seed by seed: {', '.join(told)}. {REASON}"


REASON = """ADBS has one prefill in flight for all models, and
every decode goes with it; round robin prefills whenever it is a model's turn. So it admits more prompts, its batches are larger, and the
time between tokens is what pays for it: the policy, not the model of the device. (Rows of a small model are cheaper than those of a large
one, of which `mux` has fewer: by them alone it is not to be compared.)"""


def padding() -> str:
    """What the ladders are."""
    layout = CacheLayout.of(BY_NAME["llama-3.1-8b"], element_bytes=2)
    buckets = Buckets.of(layout, slots=ways.SLOTS, max_tokens=ways.MAX_TOKENS, token_budget=2048, prefill_rows=ways.PROMPTS, ragged=True)
    return f"""## Sizes of steps

{len(buckets.shapes())} sizes today for the 8B with {ways.SLOTS} slots: decode rows
{buckets.decode_rows}, rows that decode beside chunks
{buckets.mixed_rows}, tokens of both together {buckets.tokens}, and
{buckets.tokens[-1]} beside as many rows as there may be."""
