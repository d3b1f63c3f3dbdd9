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


def highest_rps(lines: Sequence[Line]) -> float:
    """The highest rate asked at which, and at all lower ones, GOOD of the requests were within target; 0 for none."""
    best = 0.0
    for line in lines:
        if (line["values"]["attainment"] or 0.0) < GOOD:
            break
        best = sum(line["values"]["rates"].values())
    return best


def _highest(systems: Systems) -> Iterator[str]:
    rates = {name: highest_rps(lines) for name, lines in systems.items()}
    for name, lines in systems.items():
        rate, last = rates[name], sum(lines[-1]["values"]["rates"].values())
        bound = "at least " if rate == last else ""
        ratio = f": {BEST} {rates[BEST] / rate:.2f} times as much" if name != BEST and rate else ""
        least = f"{min(sum(line['values']['rates'].values()) for line in lines):.4g}"
        told = (
            f"{bound}{rate:.4g} requests/s with {GOOD:.0%} within target{ratio}"
            if rate
            else f"{GOOD:.0%} within target at no rate, from {least} on"
        )
        yield f"**{name}**: {told}"


def shared(own: Sequence[Line], others: Sequence[Line]) -> tuple[Line, Line]:
    """The lines of two systems at the highest rate that both were asked; their first ones where there is none."""
    common = {line["config"]["scale"] for line in own} & {line["config"]["scale"] for line in others}
    mine, theirs = (next((line for line in one if line["config"]["scale"] == max(common, default=None)), one[0]) for one in (own, others))
    return mine, theirs


def _streams(own: Sequence[Line], systems: Systems) -> Iterator[str]:
    """What streams got at the highest rate that both were asked."""
    for name, lines in systems.items():
        if name != BEST:
            mine, theirs = (line["values"] for line in shared(own, lines))
            told = ", ".join(_beside(kind, mine[f"median_{kind}_ms"] / 1e3, theirs[f"median_{kind}_ms"] / 1e3) for kind in ("tpot", "ttft"))
            yield f"**{name}** beside {BEST} at {sum(mine['rates'].values()):.4g} requests/s: {told}"


def _beside(kind: str, ours_s: float, theirs_s: float) -> str:
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
