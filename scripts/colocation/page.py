"""The page of `scripts.bench_colocation`, from its lines."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scripts import results
from scripts.colocation.ways import MODELS, RISING, WITHIN

Run = dict[str, Any]
ByLoad = Mapping[str, dict[str, Any]]
"""What one way did, by load."""


def page(files: Sequence[Sequence[Run]]) -> str:
    """The answer for people: a summary, then a table a load, and what the steps were.

    Args:
      files: of lines; the last one is summed up.
    """
    runs = [run for own in files for run in own]
    loads = list(dict.fromkeys(run["config"]["load"] for run in runs))
    sections = [section(load, [run for run in runs if run["config"]["load"] == load]) for load in loads]
    return "\n\n".join(part for part in (HEAD, *summary(files[-1]), *sections) if part)


HEAD = """# What do three models of unequal popularity on one GPU give their users, in turns and in lanes of their own?

LLaMA 3's 8B, 3B and 1B with random weights, in the engine's own process. x1: Poisson arrivals of 20, 24 and 48 requests a second for
40 s, log-normal lengths, mean 210 tokens in and 187 out; x3: as many in a third of the time. Latencies count from the moment at which a
request was due; within target: first token in 1 s and 50 ms a token. `turns`: one lane, ADBS. `lanes`: a lane a model, ADBS. `mux`: a
lane a model and the policy of that name. `shares`: the same, with prefills that keep to a share of the multiprocessors. Command:
`python -m scripts.bench_colocation`. Lines of one file ran on one card, one after another; the commit of each is in its line. The
summary is of the last file alone, and of its last commit."""

JUDGED = ("mux", "shares")
GOALS: Mapping[str, tuple[str, tuple[float, ...], str]] = {
    "x1: TPOT p50 " + " / ".join(MODELS): ("<=", (12.5, 9.5, 5.5), "ms"),
    "x1: TTFT p50 / p99": ("<=", (30, 90), "ms"),
    "x3: requests/s": (">=", (140,), ""),
    "x3: within target": (">=", (55,), "%"),
    "decode beside decode, tokens/s of turns": (">=", (1.15,), "x"),
    "long prompts, tokens/s of turns": (">=", (0.95,), "x"),
    "one of three active, tokens/s of turns": (">=", (0.99,), "x"),
    "long prompts: p99 gap of the others, of alone": ("<=", (2.5,), "x"),
    "highest rate within target, at least, of one too high for turns": (">=", (1.3,), "x"),
}
"""What the ways JUDGED are to reach, in the order of `figures`."""


def summary(runs: Sequence[Run]) -> list[str]:
    """What was reached of the goals, and the highest rate of each way, by the last run of each load; what did not run is left out."""
    by_way: dict[str, dict[str, dict[str, Any]]] = {}
    for run in runs:
        if run["commit"] == runs[-1]["commit"]:
            by_way.setdefault(run["config"]["way"], {})[run["config"]["load"]] = run["values"]
    turns = by_way.get("turns", {})
    reached = {way: dict(zip(GOALS, figures(by_way[way], turns), strict=True)) for way in JUDGED if way in by_way}
    rows = [
        (what, f"{sign} {shown(goals, unit)}", *(verdict(own[what], *goal) for own in reached.values()))
        for what, goal in GOALS.items()
        for sign, goals, unit in [goal]
        if any(own[what] for own in reached.values())
    ]
    rates = {way: (highest(own), too_high(own)) for way, own in by_way.items() if tried(own)}
    rising = [(way, *(f"{rate:.0f}" if rate else "" for rate in own)) for way, own in rates.items()]
    return [
        results.table(("what", "goal", *reached), rows) if rows else "",
        results.table(("way", f"requests/s with >= {100 * WITHIN:.0f} % within target", "the next rate tried, with less"), rising)
        if rising
        else "",
    ]


def figures(own: ByLoad, turns: ByLoad) -> Iterable[list[float]]:
    """Of one way, for each of the GOALS; nothing where its runs are not there."""
    x1, x3, prompts, alone = (own.get(load) for load in ("x1", "x3", "long prompts", "alone"))
    yield [1e3 * x1["models"][name]["tpot_s"]["p50"] for name in MODELS] if x1 else []
    yield [1e3 * x1["ttft_s"][percentile] for percentile in ("p50", "p99")] if x1 else []
    yield [x3["requests_per_s"]] if x3 else []
    yield [100 * x3["attainment"]] if x3 else []
    for load in ("decodes", "long prompts", "alone"):
        yield [own[load]["tokens_per_s"] / turns[load]["tokens_per_s"]] if load in own and load in turns else []
    yield [prompts["models"]["1b"]["gap_s"]["p99"] / alone["models"]["1b"]["gap_s"]["p99"]] if prompts and alone else []
    rate, of_turns = highest(own), too_high(turns)
    yield [rate / of_turns] if rate and of_turns else []


def tried(own: ByLoad) -> list[tuple[float, float]]:
    """Requests a second that came, and the share within target, at each scale; none where the highest was not looked for."""
    scales = [own[load] for load in ("x1", *RISING) if load in own] if own.keys() & RISING else []
    return [(values["asked_per_s"], values["attainment"]) for values in scales]


def highest(own: ByLoad) -> float | None:
    """Requests a second of the largest scale that was served within target."""
    return max((rate for rate, share in tried(own) if share >= WITHIN), default=None)


def too_high(own: ByLoad) -> float | None:
    """Those of the smallest scale that was not."""
    return min((rate for rate, share in tried(own) if share < WITHIN), default=None)


def verdict(values: Sequence[float], sign: str, goals: Sequence[float], unit: str) -> str:
    """Values, and whether all goals are met; empty where there are none."""
    if not values:
        return ""
    met = all(value >= goal if sign == ">=" else value <= goal for value, goal in zip(values, goals, strict=True))
    return f"{shown(values, unit)}, {'met' if met else 'missed'}"


def shown(values: Sequence[float], unit: str) -> str:
    return f"{' / '.join(f'{value:.3g}' for value in values)} {unit}".strip()


def section(load: str, runs: Sequence[dict[str, Any]]) -> str:
    """One load, a row each way."""
    head = (
        "way",
        "device",
        "commit",
        "slots",
        "requests/s",
        "tokens/s",
        "TTFT p50 / p99",
        "TPOT p50: " + " / ".join(MODELS),
        "gap p99: " + " / ".join(MODELS),
        "within target",
        "padding",
    )
    steps = results.table(
        ("way", "steps", "number", "rows", "tokens", "ms", "padding"),
        [
            (
                run["config"]["way"],
                kind,
                own["steps"],
                f"{own['rows']:.1f}",
                f"{own['tokens']:.0f}",
                ms(own["seconds"]),
                percent(own["padding"]),
            )
            for run in runs
            for kind, own in run["values"]["steps"].items()
        ],
    )
    return f"## {load}\n\n{results.table(head, map(row, runs))}\n\n{steps}"


def row(run: dict[str, Any]) -> tuple[object, ...]:
    values = run["values"]
    return (
        run["config"]["way"],
        run["device"],
        run["commit"],
        run["config"]["slots"],
        f"{values['requests_per_s']:.1f}",
        f"{values['tokens_per_s']:.0f}",
        f"{ms(values['ttft_s']['p50'])} / {ms(values['ttft_s']['p99'])} ms",
        of_models(values, "tpot_s", "p50"),
        of_models(values, "gap_s", "p99"),
        percent(values["attainment"]),
        percent(values["padding"]),
    )


def of_models(values: dict[str, Any], what: str, percentile: str) -> str:
    """A figure of each model, in the order of MODELS."""
    return " / ".join(ms(values["models"][name][what][percentile]) if name in values["models"] else "-" for name in MODELS) + " ms"


def ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"
