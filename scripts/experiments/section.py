"""What README.md tells of all questions that were measured on a GPU: one table and one picture."""

from collections.abc import Iterator, Sequence

from muxjax.units import show_s
from scripts import results
from scripts.experiments.page import by_system
from scripts.experiments.question import Question
from scripts.experiments.questions import BY_NAME
from scripts.experiments.seeds import over_seeds
from scripts.experiments.verdicts import BEST, Line, highest_rps, median_s, rate, shared

NAME, PICTURE = "systems", "three-models"
HEAD = ("on one GPU, over HTTP", "what", "muxjax", "beside", "", "times")


def write() -> None:
    """Replaces the section."""
    results.write_section(NAME, section())


def section() -> str:
    """In Markdown; empty where nothing was measured."""
    found = {name: _on_gpu(results.read_runs(name)) for name in BY_NAME}
    measured = {name: lines for name, lines in found.items() if lines}
    rows = [row for name, lines in measured.items() for row in _rows(BY_NAME[name], lines)]
    lines = [line for own in measured.values() for line in own]
    devices, seeds = (_each(line[key] for line in lines) for key in ("device", "seed"))
    told = f"Measured on {devices}, bfloat16, random weights, random prompts, seed {seeds}."
    picture = f"![share within target, tokens a second and time to the first token over the rate](docs/results/{PICTURE}/rates.png)"
    return f"{told}\n\n{results.table(HEAD, rows)}\n\n{picture}"


def _on_gpu(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if "NVIDIA" in line["device"]]


def _rows(question: Question, lines: Sequence[Line]) -> Iterator[Sequence[str]]:
    """Of each other system, beside ours."""
    systems = by_system(over_seeds(lines))
    models = ", ".join(question.models) if len(question.models) <= 6 else f"{len(question.models)} models"
    link = f"[{models}](docs/results/{question.name}/README.md)"
    for name, others in systems.items():
        if name == BEST or BEST not in systems:
            continue
        mine, theirs = shared(systems[BEST], others)
        if question.at_once is not None:
            tokens = (line["values"]["output_throughput"] for line in (mine, theirs))
            yield link, f"{question.at_once} requests at once", *_more(name, *tokens)
            continue
        if len(question.models) > 1:
            yield link, "requests/s with 99 % within target", *_highest(systems[BEST], name, others)
        ours_s, theirs_s = median_s(mine, "tpot"), median_s(theirs, "tpot")
        yield link, f"time per token at {rate(mine):.0f} requests/s", show_s(ours_s), name, show_s(theirs_s), f"{theirs_s / ours_s:.2f}"


def _more(name: str, ours: float, theirs: float) -> Sequence[str]:
    return f"{ours:,.0f} tokens/s", name, f"{theirs:,.0f} tokens/s", f"{ours / theirs:.2f}"


def _highest(own: Sequence[Line], name: str, others: Sequence[Line]) -> Sequence[str]:
    """Where the other keeps to it at no rate, it is known to be less than at the lowest that it was asked."""
    ours, theirs = highest_rps(own), highest_rps(others)
    least = rate(others[0])
    if theirs:
        return f"{ours:.0f}", name, f"{theirs:.0f}", f"{ours / theirs:.2f}"
    return f"{ours:.0f}", name, f"under {least:.0f}", f"over {ours / least:.2f}"


def _each(values) -> str:
    return ", ".join(sorted({str(value) for value in values}))
