"""The page of a question, made from its lines."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from muxjax.bench.plots import check
from muxjax.units import show_s
from muxjax.workload.metrics import GOOD
from scripts import results
from scripts.experiments.leases import by_system, leases
from scripts.experiments.question import Question
from scripts.experiments.seeds import spread
from scripts.experiments.verdicts import Line, Systems, rate, shared, verdicts

APART = ("system", "model", "asked, requests/s", "served", "within target", "TTFT p50 / p99", "TPOT p50 / p99")
HEAD = ("system", "asked, requests/s", "served", "within target", "output tokens/s", "TTFT p50 / p99", "TPOT p50 / p99", "fairness")


def page(question: Question, lines: Sequence[Line]) -> str:
    """For people; what was measured on one card in one lease stands together, the latest first."""
    parts = [f"# {question.title}", _about(question, lines)]
    for own in reversed(leases(lines)):
        parts += _lease(question, own)
    return "\n\n".join(parts)


def draw(question: Question, lines: Sequence[Line], path: Path) -> None:
    """Attainment, tokens a second and the slowest streams over the rate, a line a system, of the lease that measured most."""
    check(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.8), layout="constrained")
    kinds = {"attainment": "share within target", "output_throughput": "output tokens/s", "p99_ttft_ms": "TTFT p99, ms"}
    axes = figure.subplots(1, len(kinds))
    for axis, (key, label) in zip(axes, kinds.items(), strict=True):
        for number, (system, own) in enumerate(by_system(max(leases(lines), key=len)).items()):
            points = [(rate(line), line["values"][key]) for line in own if line["values"][key] is not None]
            axis.plot([x for x, _ in points], [y for _, y in points], marker=".", color=f"C{number % 10}", label=system)
        axis.set(xlabel="requests/s asked", ylabel=label)
    axes[0].axhline(GOOD, color="lightgray", zorder=0)
    axes[0].set_ylim(0, 1.02)
    axes[2].set_yscale("log")
    axes[0].legend()
    figure.savefig(path, dpi=110)


def _about(question: Question, lines: Sequence[Line]) -> str:
    models = ", ".join(f"{name} ({Path(shape).name})" for name, shape in itertools.islice(question.models.items(), 6))
    more = f" and {len(question.models) - 6} more" if len(question.models) > 6 else ""
    weights = "random weights" if question.dummy else "real weights"
    when = f"{question.at_once} requests at once" if question.at_once else "requests at multiples of their rates"
    targets = " and ".join(f"{name.upper()} {show_s(value)}" for name, value in question.targets.absolute.items())
    seeds = ", ".join(str(seed) for seed in sorted({line["seed"] for line in lines}))
    about = f" {question.about}" if question.about else ""
    return (
        f"{models}{more}, {weights} in {question.dtype}, {question.cache} of cache for all together, up to {question.max_model_len} tokens"
        f" and {question.max_num_seqs} sequences a model; {when}, prompts of random tokens, fixed lengths, over HTTP; latencies count from"
        f" the moment at which a request was due. Served: requests a second until the last answer, which long ones put off. Within target:"
        f" {targets}.{about} Command: `python -m scripts.bench_systems {question.name}`; seeds {seeds}; versions"
        f" {_versions(lines)}."
    )


def _versions(lines: Sequence[Line]) -> str:
    return ", ".join(f"{name} {version}" for name, version in lines[0]["versions"].items())


def _lease(question: Question, lines: Sequence[Line]) -> Iterator[str]:
    seconds = " or ".join(f"{one:g}" for one in sorted({line["config"]["duration_s"] for line in lines}))
    over = "" if question.at_once else f", requests for {seconds} s"
    yield f"## {lines[0]['device']}, commit {lines[0]['commit'][:12]}{over}"
    systems = by_system(lines)
    yield "\n".join(f"- {line}" for line in verdicts(question, systems))
    yield results.table(HEAD, (_row(line) for own in systems.values() for line in own))
    if 1 < len(question.models) <= 6:
        yield "The models apart, at the highest rate that all were asked:"
        yield results.table(APART, _apart(systems))
    yield "\n".join(_told_of_each(systems))


def _row(line: Line) -> Sequence[object]:
    found = line["values"]
    behind = "" if found["valid"] else " (the client fell behind)"
    return (
        line["config"]["backend"],
        f"{rate(line):.4g}" if line["config"]["at_once"] is None else "all at once",
        f"{spread(line, 'request_throughput', '.4g')}{behind}",
        spread(line, "attainment", ".1%"),
        spread(line, "output_throughput", ".5g"),
        _pair(found, "ttft"),
        _pair(found, "tpot"),
        f"{found['fairness']:.3f}",
    )


def _apart(systems: Systems) -> Iterator[Sequence[object]]:
    for system, line in zip(systems, shared(*systems.values()), strict=True):
        for model, found in line["values"]["models"].items():
            asked_rps = line["values"]["rates"][model]
            served = f"{found['request_throughput']:.4g}"
            yield system, model, f"{asked_rps:.4g}", served, share(found["attainment"]), _pair(found, "ttft"), _pair(found, "tpot")


def _told_of_each(systems: Systems) -> Iterator[str]:
    for system, own in systems.items():
        found = own[0]["values"]
        start = f"; ready in {show_s(found['start_s'])}" if "start_s" in found else ""
        trouble = next((line["values"]["trouble"] for line in own if line["values"]["trouble"]), "")
        ended = f"; {trouble.splitlines()[0][:200]}" if trouble else ""
        yield f"- **{system}**: {own[0]['config']['about']}{start}{ended}"


def share(attained: float | None) -> str:
    return "" if attained is None else f"{attained:.1%}"


def _pair(found: Line, name: str) -> str:
    return " / ".join("" if found[f"{at}_{name}_ms"] is None else show_s(found[f"{at}_{name}_ms"] / 1e3) for at in ("p50", "p99"))
