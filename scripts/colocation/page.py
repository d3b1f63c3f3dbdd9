"""The page of `scripts.bench_colocation`, from its lines."""

from collections.abc import Sequence
from typing import Any

from scripts import results
from scripts.colocation.ways import MODELS


def page(runs: Sequence[dict[str, Any]]) -> str:
    """The answer for people: a table a load, and what the steps were."""
    loads = list(dict.fromkeys(run["config"]["load"] for run in runs))
    return "\n\n".join([HEAD, verdicts(runs), *(section(load, [run for run in runs if run["config"]["load"] == load]) for load in loads)])


HEAD = """# What do three models of unequal popularity on one GPU give their users, in turns and in lanes of their own?

LLaMA 3's 8B, 3B and 1B with random weights, in the engine's own process. x1: Poisson arrivals of 20, 24 and 48 requests a second for
40 s, log-normal lengths, mean 210 tokens in and 187 out; x3: as many in a third of the time. Latencies count from the moment at which a
request was due; within target: first token in 1 s and 50 ms a token. `turns`: one lane, ADBS. `lanes`: a lane a model, ADBS. `mux`: a
lane a model and the policy of that name. Command: `python -m scripts.bench_colocation`. Lines of one file ran on one card, one after
another; the commit of each is in its line."""


def verdicts(runs: Sequence[dict[str, Any]]) -> str:
    """What `mux` reached of the goals, each by its last run, in a table; goals whose runs are not there are left out."""
    last = {(run["config"]["way"], run["config"]["load"]): run["values"] for run in runs}
    rows = []
    if x1 := last.get(("mux", "x1")):
        tpot_ms = [1e3 * x1["models"][name]["tpot_s"]["p50"] for name in MODELS]
        ttft_ms = [1e3 * x1["ttft_s"][percentile] for percentile in ("p50", "p99")]
        rows.append(("x1: TPOT p50 " + " / ".join(MODELS), *verdict(tpot_ms, (12.5, 9.5, 5.5), "ms")))
        rows.append(("x1: TTFT p50 / p99", *verdict(ttft_ms, (30, 90), "ms")))
    if x3 := last.get(("mux", "x3")):
        rows.append(("x3: requests/s", *verdict([x3["requests_per_s"]], (140,), "", least=True)))
        rows.append(("x3: within target", *verdict([100 * x3["attainment"]], (55,), "%", least=True)))
    for load, least, what in (
        ("decodes", 1.15, "decode beside decode, tokens/s of turns"),
        ("long prompts", 0.95, "long prompts, tokens/s of turns"),
        ("alone", 0.99, "one of three active, tokens/s of turns"),
    ):
        if ("mux", load) in last and ("turns", load) in last:
            ratio = last["mux", load]["tokens_per_s"] / last["turns", load]["tokens_per_s"]
            rows.append((what, *verdict([ratio], (least,), "x", least=True)))
    if ("mux", "long prompts") in last and ("mux", "alone") in last:
        gaps = [last["mux", load]["models"]["1b"]["gap_s"]["p99"] for load in ("long prompts", "alone")]
        rows.append(("long prompts: p99 gap of the others, of alone", *verdict([gaps[0] / gaps[1]], (2.5,), "x")))
    return results.table(("what", "goal", "mux", ""), rows)


def verdict(values: Sequence[float], goals: Sequence[float], unit: str, *, least: bool = False) -> tuple[str, str, str]:
    """Goal, values, and whether all are met; `least` where more is better."""
    met = all(value >= goal if least else value <= goal for value, goal in zip(values, goals, strict=True))
    sign = ">=" if least else "<="
    return (
        f"{sign} {' / '.join(f'{goal:g}' for goal in goals)} {unit}",
        f"{' / '.join(f'{value:.3g}' for value in values)} {unit}",
        "met" if met else "missed",
    )


def section(load: str, runs: Sequence[dict[str, Any]]) -> str:
    """One load, a row each way."""
    head = (
        "way",
        "device",
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
