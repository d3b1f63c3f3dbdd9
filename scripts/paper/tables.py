"""Tables of MuxServe's results beside ours, from the records of both."""

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from muxjax.workload.metrics import goodput
from scripts import results
from scripts.paper.ablation import LARGE_SCALES, SHAPES
from scripts.paper.comparison import ALPHAS, RATE_SCALES, SYSTEMS

QUESTION = "paper-shape"
OURS = tuple(system.name for system in SYSTEMS)
PAPERS = ("spatial", "temporal", "mux")
SLOS = (3, 8, 20)
GRID = [(alpha, rate_scale) for alpha in ALPHAS for rate_scale in RATE_SCALES]

Values = dict[str, Any]
Record = dict[str, Any]
Read = Callable[[Values], float]


class Key(NamedTuple):
    """A run of the comparison."""

    alpha: float
    rate_scale: float
    system: str


def paper() -> dict[Key, Values]:
    """MuxServe's comparable results, in the names of ours. Source: docs/results/paper-shape/paper.json, which names its own."""
    runs = json.loads((results.ROOT / "docs" / "results" / QUESTION / "paper.json").read_text())["runs"]
    return {Key(run["alpha"], run["rate_scale"], run["system"]): run for run in runs if run["comparable"]}


def ours(records: Sequence[Record], part: str = "comparison") -> dict[Key, Values]:
    """Values of our runs of that part."""
    found = {}
    for record in records:
        config = record["config"]
        if config["part"] == part:
            values = record["values"]
            flat = {f"slo{scale}": values["attainment"]["latency"][str(scale)] for scale in SLOS}
            found[Key(config["alpha"], config["rate_scale"], config["system"])] = values | flat
    return found


def gains(
    found: dict[Key, Values], read: Read, over: Sequence[str] = ("spatial", "temporal"), *, of: str = "mux"
) -> dict[tuple[float, float], float]:
    """Gains of a system over the best of some systems, by setting; of those settings that have them all."""
    gained = {}
    for at in GRID:
        others = [read(found[Key(*at, system)]) for system in over if Key(*at, system) in found]
        if len(others) == len(over):
            gained[at] = read(found[Key(*at, of)]) / max(others)
    return gained


def spread(gained: dict[tuple[float, float], float]) -> str:
    """Least, geometric mean and most."""
    values = list(gained.values())
    return f"{min(values):.2f} / **{statistics.geometric_mean(values):.2f}** / {max(values):.2f}"


def gain_table(theirs: dict[Key, Values], mine: dict[Key, Values]) -> str:
    """Gains of mux in all metrics, least / mean / most over the settings."""
    reads: dict[str, Read] = {
        "requests/s": lambda values: values["rps"],
        "the paper's rate-weighted metric": lambda values: values["paper_metric"],
        "attainment at SLO scale 8": lambda values: values["slo8"],
        "attainment at SLO scale 20": lambda values: values["slo20"],
    }
    aware = ("spatial, aware", "temporal")
    rows = [
        (what, spread(gains(theirs, read)), spread(gains(mine, read)), spread(gains(mine, read, aware))) for what, read in reads.items()
    ]
    return results.table(("mux over the better of spatial and temporal", "paper", "ours", "ours, with spatial, aware"), rows)


def throughput_table(theirs: dict[Key, Values], mine: dict[Key, Values]) -> str:
    """Requests a second in every setting."""
    head = ("alpha", "rate", "demanded", *(f"paper: {name}" for name in PAPERS), "gain", *(f"ours: {name}" for name in OURS), "gain")
    gained = [gains(found, lambda values: values["rps"]) for found in (theirs, mine)]
    rows = []
    for at in GRID:
        cells = [
            [f"{found[Key(*at, name)]['rps']:.0f}" if Key(*at, name) in found else "-" for name in names]
            for found, names in ((theirs, PAPERS), (mine, OURS))
        ]
        demanded = f"{mine[Key(*at, 'mux')]['demanded_rps']:.0f}"
        ratios = [f"{gain[at]:.2f}" if at in gain else "-" for gain in gained]
        rows.append((*at, demanded, *cells[0], ratios[0], *cells[1], ratios[1]))
    return results.table(head, rows)


def attainment_table(theirs: dict[Key, Values], mine: dict[Key, Values]) -> str:
    """Attainment at the paper's three scales in every setting."""
    head = ("alpha", "rate", *(f"paper: {name}" for name in PAPERS), *(f"ours: {name}" for name in OURS))
    rows = []
    for at in GRID:
        cells = [_slos(found.get(Key(*at, name))) for found, names in ((theirs, PAPERS), (mine, OURS)) for name in names]
        rows.append((*at, *cells))
    return results.table(head, rows)


def goodput_table(theirs: dict[Key, Values], mine: dict[Key, Values]) -> str:
    """The highest rate scale with 99 % of the requests within SLO scale 8, by alpha."""
    head = ("alpha", *(f"paper: {name}" for name in PAPERS), *(f"ours: {name}" for name in OURS))
    sides = ((theirs, PAPERS), (mine, OURS))
    rows = [(alpha, *(_goodput(found, alpha, name) for found, names in sides for name in names)) for alpha in ALPHAS]
    return results.table(head, rows)


def latency_table(theirs: dict[Key, Values], mine: dict[Key, Values]) -> str:
    """Percentiles of ours, means of both."""
    head = ("alpha", "rate", "system", "TTFT p50 / p90 / p99 s", "TPOT ms", "latency s", "mean TTFT s", "paper", "mean latency s", "paper")
    return results.table(head, _latency_rows(theirs, mine))


def ablation_table(records: Sequence[Record]) -> str:
    """Every policy on both shapes."""
    head = ("shape", "length", "policy", "jobs", "paper", "weighted req/s", "req/s", "tokens/s", "served/demanded", "TTFT p99", "TPOT p99")
    return results.table(head, [_ablation_row(record) for record in _ablations(records) if not record["config"]["variant"]])


def ablation_gain_table(records: Sequence[Record]) -> str:
    """ADBS over the others."""
    rows = []
    for shape in SHAPES:
        for other in ("round_robin", "fcfs"):
            cells = [
                f"{weighted(records, shape.title, scale, 'adbs', spatial) / weighted(records, shape.title, scale, other, False):.2f}"
                for scale in LARGE_SCALES
                for spatial in (True, False)
            ]
            rows.append((shape.title, other, f"{shape.paper['adbs'] / shape.paper[other]:.2f}", *cells))
    columns = [f"{jobs}, {scale:g} x" for scale in LARGE_SCALES for jobs in ("side by side", "one at a time")]
    return results.table(("shape", "ADBS over", "paper", *columns), rows)


def variant_table(records: Sequence[Record]) -> str:
    """Runs that isolate a cause in the ablations, beside what each differs from."""
    rows = []
    for record in _ablations(records):
        config, values = record["config"], record["values"]
        if config["variant"]:
            own = (config["shape"], config["large_scale"], config["policy"], config["sharing"]["spatial"])
            before = ablation(records, *own)
            rows.append(
                (
                    config["shape"],
                    _policy(config),
                    config["variant"],
                    f"{before['weighted_rps']:.2f} → {values['weighted_rps']:.2f}",
                    f"{_shares(before)} → {_shares(values)}",
                    f"{_tpot_ms(before)} → {_tpot_ms(values)}",
                )
            )
    return results.table(("shape", "policy", "change", "weighted req/s", "served/demanded", "TPOT p99 ms"), rows)


def cause_table(records: Sequence[Record]) -> str:
    """Runs that isolate a cause in the comparison, beside the system that each changes."""
    whole, rows = ours(records), []
    for key, values in sorted(ours(records, "cause").items(), key=lambda item: (item[0].system, item[0].alpha)):
        system, _, change = key.system.partition(", ")
        before = whole[Key(key.alpha, key.rate_scale, system)]
        pairs = [f"{before[name]:.1f} → {values[name]:.1f}" for name in ("rps", "paper_metric")]
        shares = [f"{before[name]:.0%} → {values[name]:.0%}" for name in ("slo8", "slo20")]
        rows.append((system, change, key.alpha, key.rate_scale, *pairs, *shares))
    return results.table(("system", "change", "alpha", "rate", "req/s", "paper's metric", "within SLO 8", "within SLO 20"), rows)


def ablation(records: Sequence[Record], shape: str, scale: float, policy: str, spatial: bool, variant: str = "") -> Values:
    """Values of that run."""
    key = (shape, scale, policy, spatial, variant)
    for record in _ablations(records):
        config = record["config"]
        if (config["shape"], config["large_scale"], config["policy"], config["sharing"]["spatial"], config["variant"]) == key:
            return record["values"]
    raise KeyError(key)


def weighted(records: Sequence[Record], *run: Any) -> float:
    """Rate-weighted requests a second of an ablation's run; see `ablation`."""
    return ablation(records, *run)["weighted_rps"]


def _ablations(records: Sequence[Record]) -> Iterator[Record]:
    return (record for record in records if record["config"]["part"] == "ablation")


def _slos(values: Values | None) -> str:
    return " / ".join(f"{values[f'slo{scale}']:.0%}" for scale in SLOS) if values else "-"


def _goodput(found: dict[Key, Values], alpha: float, system: str) -> str:
    attained = {scale: found[Key(alpha, scale, system)]["slo8"] for scale in RATE_SCALES if Key(alpha, scale, system) in found}
    best = goodput(attained)
    return f"{best:g}" if best else "none"


def _latency_rows(theirs: dict[Key, Values], mine: dict[Key, Values]) -> Iterator[tuple]:
    for at in GRID:
        for system in OURS:
            values, other = mine[Key(*at, system)], theirs.get(Key(*at, system))
            percentiles = [
                " / ".join(f"{values[name][p] * unit:.{digits}f}" for p in ("p50", "p90", "p99"))
                for name, unit, digits in (("ttft_s", 1, 2), ("tpot_s", 1e3, 0), ("latency_s", 1, 1))
            ]
            means = [
                cell
                for name in ("mean_ttft_s", "mean_latency_s")
                for cell in (f"{values[name]:.1f}", f"{other[name]:.1f}" if other else "-")
            ]
            yield (*at, system, *percentiles, *means)


def _ablation_row(record: Record) -> tuple:
    config, values = record["config"], record["values"]
    shape = next(shape for shape in SHAPES if shape.title == config["shape"])
    return (
        config["shape"],
        f"{config['large_scale']:g} x",
        config["policy"],
        _jobs(config),
        shape.paper[config["policy"]],
        f"{values['weighted_rps']:.2f}",
        f"{values['rps']:.2f}",
        f"{values['output_tokens_per_s']:.0f}",
        _shares(values),
        f"{values['ttft_s']['p99']:.1f} s",
        f"{_tpot_ms(values)} ms",
    )


def _jobs(config: dict[str, Any]) -> str:
    return "side by side" if config["sharing"]["spatial"] else "one at a time"


def _policy(config: dict[str, Any]) -> str:
    return f"{config['policy']}, {_jobs(config)}" if config["policy"] == "adbs" else config["policy"]


def _shares(values: Values) -> str:
    return ", ".join(f"{name.removeprefix('llama-').upper()} {share:.0%}" for name, share in values["served_over_demanded"].items())


def _tpot_ms(values: Values) -> str:
    return f"{values['tpot_s']['p99'] * 1e3:.0f}"
