"""The page of `scripts.bench_start`, from its lines."""

from collections.abc import Mapping, Sequence
from typing import Any

from scripts import results

STREAMS = 16
"""That are begun at a time beside a model that is added."""
GOALS_S = {"one model, nothing kept": (30, None), "three models, nothing kept": (60, 240), "three models, everything kept": (12, None)}
GOALS_S |= {"make demo, nothing kept": (15, None), "make demo, everything kept": (4, None)}
"""Seconds to the first answer, and to the last program; of the kept start beside loading weights."""
KEYS = ("imported", "built", "first answer", "all programs", "added")
COSTS = ("tracing", "lowering", "XLA", "keeping", "loading", "first run", "second run")


def page(runs: Sequence[Mapping[str, Any]]) -> str:
    """The README of the result, a part for each device."""
    by_device: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        by_device.setdefault(run["device"], []).append(run)
    parts = "\n".join(f"## {device}\n\n{_device_part(own)}" for device, own in by_device.items())
    return f"""# How long does a start take?

Seconds since the process began, with random weights (making them is part of it); `make demo` has weights of its own. "First answer": a
token of every model, and of the demo its first whole answer. The goals are in brackets. Made by `python -m scripts.bench_start` (on a GPU),
`--tiny` (toy models, on a CPU) and `--demo`; the runs are in [runs.jsonl](runs.jsonl) and runs-*.jsonl.

{parts}"""


def _device_part(runs: Sequence[Mapping[str, Any]]) -> str:
    """All that was measured on one device."""
    starts = [run for run in runs if "costs" not in run["values"]]
    costs = [run for run in runs if "costs" in run["values"]]
    return "\n".join([_starts(starts) if starts else "", *(_costs(run) for run in costs)])


def _starts(runs: Sequence[Mapping[str, Any]]) -> str:
    rows, busy = [], False
    for run in runs:
        values, tiny = run["values"], run["config"].get("tiny")
        first, last = (None, None) if tiny else GOALS_S.get(run["config"]["case"], (None, None))
        added = None if tiny else 20 if "not kept" in run["config"]["case"] else 3
        cells = (_shown(values.get(key), goal) for key, goal in zip(KEYS, (None, None, first, last, added), strict=True))
        toy = " (toy models)" if tiny else ""
        rows.append([run["config"]["case"] + toy, *cells, _plain(values, "processor"), _plain(values, "load")])
        busy = busy or "load" in values
    told = """
"Processor" is the seconds that processors had spent on it by its first answer; "load" what else
ran as it began: where that is much, the other columns tell more of the machine than of the start.
"""
    steps = [
        [run["config"]["case"], name.removesuffix(" step p99 alone"), *_ratio(value, run["values"][name.replace("alone", "beside")])]
        for run in runs
        for name, value in run["values"].items()
        if name.endswith("p99 alone")
    ]
    beside = f"""
Adding a model beside two that serve {STREAMS} new streams a second or so; p99 of their decode steps (goal: 1.3 times). Both
columns hold what else ran on the machine, so that a ratio at a high load, above all one below 1, says little:

{results.table(["case", "model", "before", "while it is added", "times"], steps)}
"""
    return f"{results.table(['start', *KEYS, 'processor', 'load'], rows)}\n{told if busy else ''}{beside if steps else ''}"


def _costs(run: Mapping[str, Any]) -> str:
    """Where the time of making programs goes."""
    rows = [[row["model"], row["program"], row["count"], *(f"{row[key]:.2f}" for key in COSTS)] for row in run["values"]["costs"]]
    return f"""
Seconds of all programs that a start waits for, one after the other, of {"toy models" if run["config"]["tiny"] else "models of full size"}:

{results.table(["model", "programs", "count", *COSTS], rows)}
"""


def sentence(demos: Sequence[Mapping[str, Any]]) -> str:
    """What the project's README says of the demo's starts."""
    first, again = (run["values"] for run in demos)
    return (
        f"The demo's first answer came {first['first answer']:.0f} s after its first call, and {again['first answer']:.0f} s after another "
        f"one, for which programs were kept: {first['processor']:.0f} and {again['processor']:.0f} s of processors' time, beside a load of "
        f"{first['load']:.0f} and {again['load']:.0f} ([how long starts take](docs/results/start/README.md))."
    )


def _shown(value: float | None, goal: float | None) -> str:
    return "" if value is None else f"{value:.1f}" + (f" ({goal})" if goal else "")


def _plain(values: Mapping[str, Any], key: str) -> str:
    return f"{values[key]:.1f}" if key in values else ""


def _ratio(alone_s: float, beside_s: float) -> list[str]:
    return [f"{1e3 * alone_s:.1f} ms", f"{1e3 * beside_s:.1f} ms", f"{beside_s / alone_s:.2f}" if alone_s else ""]
