"""The page of docs/results/paper-shape: its prose is by hand, every number in it from the runs."""

import statistics
from collections.abc import Sequence

from muxjax.simulate.sharing import SPATIAL
from scripts.paper import tables
from scripts.paper.ablation import LARGE_SCALES, SHAPES, Shape
from scripts.paper.comparison import LENGTHS, NAMES, RATE_SCALES, SLOW, SMALL, TIMING, TOP_RPS
from scripts.paper.tables import GRID, PAPERS, Key, Read, Record, Values, gains, ours, paper, spread

MOST = RATE_SCALES[-1]
STEEP, EVEN, FULL = (2.1, MOST), (0.7, 1.0), (0.7, MOST)
"""Settings of which the text speaks: alpha and rate scale."""


def page(records: Sequence[Record]) -> str:
    """The page of the runs."""
    theirs, mine = paper(), ours(records)
    return "\n\n".join(
        part.strip()
        for part in (
            INTRODUCTION.format(gains=tables.gain_table(theirs, mine)),
            _answer(theirs, mine),
            SETUP.format(**_setup(records)),
            THROUGHPUT.format(table=tables.throughput_table(theirs, mine)),
            ATTAINMENT.format(table=tables.attainment_table(theirs, mine), goodput=tables.goodput_table(theirs, mine)),
            LATENCY.format(table=tables.latency_table(theirs, mine)),
            ABLATIONS.format(
                gains=tables.ablation_gain_table(records),
                table=tables.ablation_table(records),
                variants=tables.variant_table(records),
                scales=" or ".join(f"{scale:g}" for scale in LARGE_SCALES),
            ),
            CAUSES.format(table=tables.cause_table(records), slow=f"{SLOW:.0%}", small=SMALL),
            _differences(theirs, mine, records),
        )
    )


def _setup(records: Sequence[Record]) -> dict[str, object]:
    compared = next(record["config"] for record in records if record["config"]["part"] == "comparison")
    ablated = next(record["config"] for record in records if record["config"]["part"] == "ablation")
    shorter = TIMING.end_s / compared["end_s"]
    return {
        "prompt": f"{LENGTHS.prompt.mean_tokens:.0f}",
        "output": f"{LENGTHS.output.mean_tokens:.0f}",
        "efficiency": SPATIAL.efficiency,
        "shorter": SHORTER.format(f"{shorter:g}") if shorter != 1 else "",
        "warm": f"{compared['warm_s']:g}",
        "arrive": f"{compared['arrive_s']:g}",
        "end": f"{compared['end_s']:g}",
        "ablated": f"{ablated['duration_s']:g}",
        "commit": "` and `".join(dict.fromkeys(record["commit"] for record in records)),
    }


def _answer(theirs: dict[Key, Values], mine: dict[Key, Values]) -> str:
    return ANSWER.format(
        aware=spread(gains(mine, requests, ("spatial, aware",))),
        blind=spread(gains(mine, requests, ("spatial",))),
        temporal=spread(gains(mine, requests, ("temporal",))),
        their_blind=spread(gains(theirs, requests, ("spatial",))),
        their_temporal=spread(gains(theirs, requests, ("temporal",))),
        wins=sum(gain >= 1 for gain in gains(mine, requests).values()),
        settings=len(GRID),
        share=f"{_served_share(mine, mine):.0%}",
        their_share=f"{_served_share(theirs, mine):.0%}",
        lanes_mux=spread(gains(mine, requests, ("mux",), of="lanes")),
        lanes_latency=spread(gains(mine, lambda values: values["mean_latency_s"], ("mux",), of="lanes")),
        lanes_temporal=spread(gains(mine, requests, ("temporal",), of="lanes")),
        latency=spread(gains(mine, lambda values: 1 / values["mean_latency_s"], ("spatial, aware",))),
    )


def _differences(theirs: dict[Key, Values], mine: dict[Key, Values], records: Sequence[Record]) -> str:
    return DIFFERENCES.format(
        **_beside_the_paper(theirs, mine, records), **_changes(mine, ours(records, "cause")), **_in_the_ablations(records)
    )


def _beside_the_paper(theirs: dict[Key, Values], mine: dict[Key, Values], records: Sequence[Record]) -> dict[str, str]:
    top_rps = MOST * TOP_RPS
    causes = ours(records, "cause")
    small = {name: causes[Key(*STEEP, f"{name}, one replica and batches of {SMALL}")] for name in PAPERS}
    slow = {name: requests(causes[Key(*STEEP, f"{name}, devices at {SLOW:.0%}")]) for name in PAPERS}
    return {
        "top": f"{top_rps:.0f}",
        "slow": f"{SLOW:.0%}",
        "their_top": f"{most_popular_at_most(theirs[Key(*STEEP, 'spatial')], top_rps):.1f}",
        "our_top": f"{mine[Key(*STEEP, 'spatial')]['rps_of'][NAMES[0]]:.1f}",
        "their_mux_top": f"{most_popular_at_most(theirs[Key(*STEEP, 'mux')], top_rps):.0f}",
        "our_mux_top": f"{mine[Key(*STEEP, 'mux')]['rps_of'][NAMES[0]]:.0f}",
        "small": f"{SMALL}",
        "their_rps": _three(theirs, STEEP),
        "our_rps": _three(mine, STEEP),
        "their_even": _three(theirs, EVEN),
        "our_even": _three(mine, EVEN),
        "small_rps": ", ".join(f"{name} {requests(values):.0f}" for name, values in small.items()),
        "small_top": f"{small['mux']['rps_of'][NAMES[0]]:.0f}",
        "slow_rps": ", ".join(f"{name} {rps:.0f}" for name, rps in slow.items()),
        "their_gain": f"{gains(theirs, requests)[STEEP]:.2f}",
        "gain": f"{gains(mine, requests)[STEEP]:.2f}",
        "our_mux_slo": f"{within_8(mine[Key(*STEEP, 'mux')]):.0%}",
        "their_mux_slo": f"{within_8(theirs[Key(*STEEP, 'mux')]):.0%}",
        "their_ttft": f"{theirs[Key(*STEEP, 'spatial')]['mean_ttft_s']:.0f}",
        "alone_units": _units(records, FULL),
        "full_gain": f"{gains(mine, requests)[FULL]:.2f}",
        "their_full_gain": f"{gains(theirs, requests)[FULL]:.2f}",
        "efficiency": f"{SPATIAL.efficiency:g}",
        "even_demand": f"{mine[Key(*EVEN, 'mux')]['demanded_rps']:.0f}",
    }


def _changes(mine: dict[Key, Values], causes: dict[Key, Values]) -> dict[str, str]:
    """Before → after of what isolates a cause."""

    def change(read: Read, form: str, system: str, what: str, at: tuple[float, float]) -> str:
        before, after = mine[Key(*at, system)], causes[Key(*at, f"{system}, {what}")]
        return f"{format(read(before), form)} → {format(read(after), form)}"

    return {
        "replica": change(requests, ".0f", "mux", "one replica of each LLM", STEEP),
        "serial_even_rps": change(requests, ".0f", "mux", "one job at a time", EVEN),
        "serial_steep_rps": change(requests, ".0f", "mux", "one job at a time", STEEP),
        "lossless": change(lambda values: values["mean_latency_s"], ".1f", "mux", "lanes without loss", EVEN) + " s",
        "permuted": change(within_8, ".0%", "mux", "requests permuted", STEEP),
        "permuted_rps": change(requests, ".0f", "mux", "requests permuted", STEEP),
        "greedy_temporal": change(requests, ".0f", "temporal", "memory-greedy placement", STEEP),
        "greedy_mux": change(requests, ".0f", "mux", "memory-greedy placement", STEEP),
        "greedy_even": change(requests, ".0f", "mux", "memory-greedy placement", EVEN),
        "longer_ttft": change(lambda values: values["mean_ttft_s"], ".1f", "spatial", "twice as long", STEEP),
        "longer_slo": change(within_8, ".0%", "spatial", "twice as long", STEEP),
        "longer_mux": change(requests, ".0f", "mux", "twice as long", STEEP),
    }


def _in_the_ablations(records: Sequence[Record]) -> dict[str, str]:
    def gain(shape: Shape, over: str, variant: str) -> float:
        runs = ((shape.title, LARGE_SCALES[-1], policy, policy == "adbs", variant) for policy in ("adbs", over))
        adbs, other = (tables.weighted(records, *run) for run in runs)
        return adbs / other

    def large(variant: str) -> str:
        run = tables.ablation(records, SHAPES[1].title, LARGE_SCALES[-1], "adbs", True, variant)
        return f"{run['served_over_demanded']['llama-65b']:.0%}"

    both = {
        f"{over}_gains": " and ".join(f"{gain(shape, over, ''):.2f} → {gain(shape, over, 'prompts apart'):.2f}" for shape in SHAPES)
        for over in ("round_robin", "fcfs")
    }
    return both | {
        "large": large(""),
        "no_floors": large("quotas without floors"),
        "fixed": large("fixed quotas"),
        "no_quotas": large("no quotas"),
    }


def requests(values: Values) -> float:
    """Requests a second."""
    return values["rps"]


def within_8(values: Values) -> float:
    """Share of the requests within SLO scale 8."""
    return values["slo8"]


def most_popular_at_most(values: Values, rate_rps: float) -> float:
    """Requests a second that the most popular LLM can have been served: all of the paper's metric, had the others been served none."""
    return values["paper_metric"] * len(NAMES) / int(rate_rps)


def _served_share(found: dict[Key, Values], mine: dict[Key, Values]) -> float:
    """Share of the demand that mux serves, in the geometric mean of the settings."""
    return statistics.geometric_mean(requests(found[Key(*at, "mux")]) / mine[Key(*at, "mux")]["demanded_rps"] for at in GRID)


def _three(found: dict[Key, Values], at: tuple[float, float]) -> str:
    """Requests a second of the paper's systems."""
    return ", ".join(f"{name} {requests(found[Key(*at, name)]):.0f}" for name in PAPERS)


def _units(records: Sequence[Record], at: tuple[float, float]) -> str:
    """How many units mux has there, and how many of them hold one LLM."""
    for record in records:
        config = record["config"]
        if (config["part"], config.get("system"), config.get("alpha"), config.get("rate_scale")) == ("comparison", "mux", *at):
            return f"{sum(len(members) == 1 for _, members in config['units'])} of {len(config['units'])}"
    raise KeyError(at)


INTRODUCTION = """
# Does muxjax reproduce the shape of MuxServe's results?

MuxServe (Duan et al., ICML 2024, arXiv 2404.02015) compares three ways to serve 19 LLMs on 32 A100 in its figure 5, and ablates its
scheduler, ADBS. Here both are **simulated**: the real scheduler, block accounting and loop, and placements by `muxjax/placement`, with a
roofline of the A100 in place of devices. Made by `python -m scripts.paper.shape`; all our values are in [runs.jsonl](runs.jsonl), the
paper's in [paper.json](paper.json), which says where they are from.

## Answer

{gains}

Least / geometric mean / most over the settings below.
"""

SHORTER = "All times are shorter by a factor of {} than they are unless told otherwise (`--shorter`), for want of time to simulate.\n"

SETUP = """
## What is compared

12 LLaMA-7B, 4 13B, 2 30B and one 65B on four nodes of eight A100-80GB. The i-th of them, in this order, gets rate scale x 20 x i^-alpha
requests a second (Poisson), of ShareGPT's lengths (in the mean {prompt} tokens in, {output} out).

| system | paper | ours |
| --- | --- | --- |
| spatial | vLLM, a mesh for each LLM | a mesh for each LLM, popularity ignored: what weights need, then the largest LLMs first |
| spatial, aware | - | a mesh for each LLM, devices to where they add most; a baseline that the paper lacks |
| temporal | like AlpaServe: LLMs share meshes, one job at a time | the placement of mux, FCFS, one job at a time |
| mux | MuxServe's placement and ADBS | greedy placement with replicas, ADBS, jobs of several LLMs side by side (efficiency {efficiency}) |
| lanes | - | greedy placement with replicas, our policy `mux`, up to four lanes in a unit |

Mux shares devices as MuxServe says it does. Lanes share them as [the engine's do](../simulator-truth/README.md). The engine has them on one
device, and takes turns under ADBS on several; most units here are of several, so that a row of the last table tells what is left without
them there. The ablations are of units of four devices, in MuxServe's ways only.

{shorter}Requests come for {arrive} s. Throughput is of what ends from {warm} s to {arrive} s. The run ends at {end} s; what is within its
objective then, but unfinished, counts neither way. Objectives are multiples of what the request takes alone on an idle mesh of the fewest
devices that hold its LLM. The ablations last {ablated} s. One seed: differences of a few percent mean nothing. The runs are of commit
`{commit}`.
"""

THROUGHPUT = """
## Throughput

![Requests a second over the rate, the paper's above ours](throughput.svg)

Requests a second. Gain: mux over the better of spatial and temporal. The paper also has alpha 0.9, left out here because three of its four
runs of temporal there are of another workload.

{table}
"""

ATTAINMENT = """
## SLO attainment

![Share of the requests within SLO scale 8 over the rate, the paper's above ours](attainment.svg)

![Share of the requests within their objective over its scale, at rate scale 1.5, the paper's above ours](slo-scales.svg)

Share of the requests within 3, 8 and 20 times their latency alone:

{table}

The highest rate scale up to which 99 % are within 8 times their latency alone:

{goodput}
"""

LATENCY = """
## Latency

![99th percentiles of TTFT, TPOT and latency over the rate](latency.svg)

Of the requests that ended; the paper's logs tell means only.

<details><summary>All settings</summary>

{table}

</details>
"""

ABLATIONS = """
## ADBS against round robin and FCFS

![Rate-weighted requests a second of the policies, the paper's beside ours](ablation.svg)

{gains}

Two units of four A100, tensor parallelism 4: LLaMA-30B, 13B and 7B at 2, 8 and 8 requests/s with lengths 2 : 1 : 1, and LLaMA-65B and 30B
at 1 and 8 requests/s with lengths 4 : 1. The paper tells the lengths' proportions only, and how far the unit is overloaded follows from
them, so two are shown: the large model's requests are {scales} times as long as ShareGPT's. Weighted: the sum of rate x requests a second
over the models, by the sum of rates.

{table}

The same under the heavier load, with one thing changed:

{variants}

*Prompts apart*: a step computes prompts or tokens, as was usual in 2024, never both. *Quotas without floors*: a model's quota may fall
to nothing. *Fixed quotas*: they stay as they began. *No quotas*: every model may have the whole arena.
"""

CAUSES = """
## What makes the difference

Each row changes what it names of a system. Devices at {slow} and batches of {small} were tried after
parts of the comparison had been seen.

{table}

*Requests permuted*: the number of requests is exchanged between LLMs as the paper's released code does (it sorts `llm-10` before `llm-2`),
and the placement is made for the rates that were meant. *Devices at {slow}*: every step takes as long as on an A100 by our costs, over
{slow}; the objectives are of the slower devices. *Twice as long*: all times of the run doubled.
"""

ANSWER = """
- **The order is the paper's**: mux serves at least as many requests a second as spatial and temporal in {wins} of {settings} settings.
  Over spatial alone it gains {blind} (the paper: {their_blind}),
  over temporal {temporal} (the paper: {their_temporal}).
- **The sizes are not**: all three serve more than the paper's, mux {share} of the demand in the mean (the paper: {their_share}). Where the
  others serve nearly all that is demanded, too, little is left to gain. The last section tells why, cause by cause.
- **A baseline that the paper lacks takes the gain in throughput away**: spatial partitioning that gives devices to the LLMs that are asked
  most. Over it, mux gains {aware} in requests a second,
  and its requests take {latency} times less time in the mean.
- **Lanes as our engine has them**, whose steps contend for the whole device, serve {lanes_mux} times the requests a second of mux
  as simulated here, in {lanes_latency} times the mean latency, and {lanes_temporal} times those of temporal.
"""

DIFFERENCES = """
## Why ours differ from the paper's

At alpha 2.1 and rate scale 2.5, where the paper's gain is near its largest, unless told otherwise.

- *At alpha 0.7 and rate scale 1 the sizes nearly agree* ({our_even} requests/s;
  the paper: {their_even}); *at higher rates ours go on where the paper's stop.*
  The most popular LLM is asked {top} times a second. By the paper's metric its spatial system can have served at most {their_top} of them
  and its mux {their_mux_top}; ours serve {our_top}, on one A100, and {our_mux_top}. In all it is {our_rps} requests/s
  (the paper: {their_rps}), so mux gains {gain} over the better of the others
  (the paper: {their_gain}). What we tried:
  - *Replicas alone are not it*: with one of each LLM, mux goes {replica} requests/s.
  - *One replica and batches of at most {small}* instead of 256: {small_rps}, the most popular LLM {small_top} in mux.
  - *Devices at {slow}*, as if the paper's engine lost the rest between steps: {slow_rps}.
    That is the paper's spatial system, but a mesh of eight still serves more than the paper's. Our costs are fitted to the paper's
    profile of single steps; what its engine does between them, the roofline does not know. What is left unexplained may be of this kind.
- *Temporal is closer to mux than in the paper*, since it has the placement of mux, which keeps the most popular LLM to itself. With a
  placement by memory alone, temporal goes {greedy_temporal} requests/s, and mux {greedy_mux} (the paper: its placement is worth 1.3 times;
  at alpha 0.7 and rate scale 1 here {greedy_even}).
- *At alpha 0.7 and rate scale 2.5 little is left to multiplex*: {alone_units} units of our placement hold a single LLM, since all devices
  have enough to do. Mux, temporal and aware spatial are nearly one system there. The paper's gain falls, too (to {their_full_gain}, over
  its temporal system; ours to {full_gain}).
- *What jobs side by side are worth*: one job at a time (ADBS all the same), mux goes {serial_even_rps} requests/s at alpha 0.7 and rate
  scale 1, of {even_demand} demanded, and {serial_steep_rps} at alpha 2.1. Were the lanes without loss (efficiency 1 instead of
  {efficiency}), its mean latency would go {lossless} at the former; in requests little is left to gain.
- *The paper's attainment is lower* (mux: {their_mux_slo} within SLO 8; ours {our_mux_slo}), as its throughput is. Its released code gives
  LLMs other numbers of requests than its placement is made for. That exchange alone does not explain it: with it, ours goes
  {permuted} within SLO 8 and {permuted_rps} requests/s, because the LLMs that it loads have room on their meshes here.
- *The paper's mean TTFT is tens of seconds where it is overloaded* (spatial: {their_ttft} s). An overloaded queue grows as long as the run
  lasts, and the paper's runs last minutes: twice as long, ours goes {longer_ttft} s, and {longer_slo} within SLO 8. So latencies and
  attainment of overloaded systems compare only within a run's length.
- *All throughputs of ours are a little low*: long requests that began in the first seconds are missing from it. Twice as long, mux goes
  {longer_mux} requests/s.
- *ADBS over round robin and FCFS* gains most of what the paper tells under the heavier load, and little under the lighter one, where the
  others nearly meet the demand. One job at a time, its decisions alone gain less: the rest is jobs side by side. With prompts and tokens in
  steps of their own, as in the paper's engine, the gain over round robin goes {round_robin_gains} (first and second
  shape), that over FCFS {fcfs_gains}: part of the difference in three cases of four.
- *The large model of the second shape* gets 13 % of its demand in the paper, {large} here. That is not the floors' doing ({no_floors}
  without them), nor the quotas' ({no_quotas} without any); with quotas by rate that stay fixed it gets {fixed}.
"""
