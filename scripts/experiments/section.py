"""What README.md tells of all questions that were measured on a GPU: one table and one picture."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from muxjax.units import show_s
from scripts import results
from scripts.experiments.leases import told_of_each
from scripts.experiments.question import Question
from scripts.experiments.questions import BY_NAME
from scripts.experiments.verdicts import BEST, Line, Systems, highest_rps, is_bounded, median_s, rate, shared

NAME, PICTURE = "systems", "three-models"
HEAD = ("on one GPU, over HTTP", "what", "muxjax", "beside", "", "times")


def write() -> None:
    """Replaces the section."""
    results.write_section(NAME, section())


def section() -> str:
    """In Markdown; empty where nothing was measured."""
    found = {name: _on_gpu(results.read_runs(name)) for name in BY_NAME}
    measured = {name: lines for name, lines in found.items() if lines}
    told = [row for name, lines in measured.items() for systems in told_of_each(lines) for row in rows(BY_NAME[name], systems)]
    lines = [line for own in measured.values() for line in own]
    devices, seeds = (_each(line[key] for line in lines) for key in ("device", "seed"))
    how = f"Measured on {devices}, bfloat16, random weights, random prompts, seed {seeds}."
    picture = f"![share within target, tokens a second and time to the first token over the rate](docs/results/{PICTURE}/rates.png)"
    return f"{how}\n\n{results.table(HEAD, told)}\n\n{picture}"


def _on_gpu(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if "NVIDIA" in line["device"]]


def rows(question: Question, systems: Systems) -> Iterator[Sequence[str]]:
    """Ours beside the other systems of its lease: one row, but where only streams can be compared, at rates that differ."""
    own, others = systems[BEST], {name: each for name, each in systems.items() if name != BEST}
    models = ", ".join(question.models) if len(question.models) <= 6 else f"{len(question.models)} models"
    link = f"[{models}](docs/results/{question.name}/README.md)"
    if question.at_once is not None:
        yield link, f"{question.at_once} requests at once, tokens/s", *_beside(own, others, _tokens_per_s)
    elif question.enough == 0.0:
        yield link, f"requests/s served, asked {rate(own[-1]):.0f}", *_beside(own, others, _served_rps)
    elif len(question.models) > 1:
        yield link, "requests/s with 99 % within target", *_beside(own, others, highest_rps, is_bounded)
    else:
        yield from ((link, *_stream(own, name, each)) for name, each in others.items())


def _tokens_per_s(lines: Sequence[Line]) -> float:
    return lines[-1]["values"]["output_throughput"]


def _served_rps(lines: Sequence[Line]) -> float:
    return lines[-1]["values"]["request_throughput"]


def _beside(
    own: Sequence[Line],
    others: Mapping[str, Sequence[Line]],
    value: Callable[[Sequence[Line]], float],
    is_known: Callable[[Sequence[Line]], bool] = lambda lines: True,
) -> Sequence[str]:
    """What ours comes to, the others' names, what they come to, and how many times that ours is; nothing of others where there are none.

    Args:
      is_known: whether a system's value is known, or only that it is no less.
    """
    ours = value(own)
    cells = [(name, *_than(ours, value(lines), rate(lines[0]), is_known(lines))) for name, lines in others.items()] or [("", "", "")]
    return f"{ours:,.0f}" + ("" if is_known(own) else " or more"), *map("; ".join, zip(*cells, strict=True))


def _than(ours: float, theirs: float, least: float, is_known: bool) -> tuple[str, str]:
    """What another comes to, and how many times that ours is. Nothing is known to be less than at the lowest rate that it was asked."""
    if not is_known:
        return f"{theirs:,.0f} or more", "unknown"
    return (f"{theirs:,.0f}", f"{ours / theirs:.2f}") if theirs else (f"under {least:,.0f}", f"over {ours / least:.2f}")


def _stream(own: Sequence[Line], name: str, others: Sequence[Line]) -> Sequence[str]:
    """Time per token at the highest rate that both were asked."""
    mine, theirs = shared(own, others)
    ours_s, theirs_s = median_s(mine, "tpot"), median_s(theirs, "tpot")
    return f"time per token at {rate(mine):.0f} requests/s", show_s(ours_s), name, show_s(theirs_s), f"{theirs_s / ours_s:.2f}"


def _each(values: Iterable[object]) -> str:
    return ", ".join(sorted({str(value) for value in values}))
