"""What a question's lines answer, in a few words: pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from muxjax.units import show_s
from muxjax.workload.metrics import GOOD
from scripts.experiments.question import Question

Line = Mapping[str, Any]
Systems = Mapping[str, Sequence[Line]]
"""Lines of each system, by rate."""
BEST = "mux"


def verdicts(question: Question, systems: Systems) -> Iterator[str]:
    """Of the first system against each other."""
    own = systems.get(BEST)
    if own is None:
        yield f"{BEST} was not measured"
        return
    if question.at_once is not None or question.enough == 0.0:
        yield from _throughputs(own, systems)
    else:
        yield from _highest(systems)
        yield from _streams(own, systems)


def rate(line: Line) -> float:
    """Requests a second that came, in the mean."""
    return sum(line["values"]["rates"].values())


def highest_rps(lines: Sequence[Line]) -> float:
    """The highest rate asked at which, and at all lower ones, GOOD of the requests were within target; 0 for none."""
    best = 0.0
    for line in lines:
        if (line["values"]["attainment"] or 0.0) < GOOD:
            break
        best = rate(line)
    return best


def is_bounded(lines: Sequence[Line]) -> bool:
    """It was asked at a rate that is too high."""
    return highest_rps(lines) != rate(lines[-1])


def _highest(systems: Systems) -> Iterator[str]:
    best = {name: highest_rps(lines) for name, lines in systems.items()}
    for name, lines in systems.items():
        bound = "" if is_bounded(lines) else "at least "
        ratio = f": {BEST} {best[BEST] / best[name]:.2f} times as much" if name != BEST and best[name] and not bound else ""
        told = (
            f"{bound}{best[name]:.4g} requests/s with {GOOD:.0%} within target{ratio}"
            if best[name]
            else f"{GOOD:.0%} within target at no rate, from {rate(lines[0]):.4g} on"
        )
        yield f"**{name}**: {told}"


def shared(*systems: Sequence[Line]) -> list[Line]:
    """The line of each system at the highest rate that all were asked; their first ones where there is none."""
    common = set.intersection(*({line["config"]["scale"] for line in lines} for lines in systems))
    return [next((line for line in lines if line["config"]["scale"] == max(common, default=None)), lines[0]) for lines in systems]


def _streams(own: Sequence[Line], systems: Systems) -> Iterator[str]:
    """What streams got at the highest rate that both were asked."""
    for name, lines in systems.items():
        if name != BEST:
            mine, theirs = shared(own, lines)
            told = ", ".join(_beside(kind, mine, theirs) for kind in ("tpot", "ttft"))
            yield f"**{name}** beside {BEST} at {rate(mine):.4g} requests/s: {told}"


def median_s(line: Line, kind: str) -> float:
    """Of the times of all its requests, ttft or tpot."""
    return line["values"][f"median_{kind}_ms"] / 1e3


def _beside(kind: str, mine: Line, theirs: Line) -> str:
    ours_s, theirs_s = median_s(mine, kind), median_s(theirs, kind)
    return f"{kind.upper()} p50 {show_s(theirs_s)} for {show_s(ours_s)}, {theirs_s / ours_s:.2f} times"


def _throughputs(own: Sequence[Line], systems: Systems) -> Iterator[str]:
    mine = own[-1]["values"]
    for name, lines in systems.items():
        found = lines[-1]["values"]
        ratio = "" if name == BEST else f": {BEST} {mine['request_throughput'] / found['request_throughput']:.2f} times the requests"
        least = min((model["attainment"] or 0.0 for model in found["models"].values()), default=0.0)
        yield (
            f"**{name}**: {found['request_throughput']:.4g} requests/s, {found['output_throughput']:.5g} output tokens/s,"
            f" {found['attainment'] or 0:.1%} within target, of the worst served model {least:.1%}{ratio}"
        )
