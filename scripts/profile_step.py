"""Where does the time of a decode step go?

    python -m scripts.profile_step            # on a GPU, two minutes
    python -m scripts.profile_step --page     # only rewrites the README from the lines there are

Traces steps of a published shape with random weights, launched back to back, and adds up the kernels of one of them by what they do.
Writes docs/results/step-profile/.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import jax

from muxjax.device.profile import Point, Profiler, claim
from muxjax.specs import published
from muxjax.types import Phase
from scripts import results

QUESTION = "step-profile"
POINTS = ((1, 1024), (32, 1024), (128, 512), (256, 576))
KINDS = {
    "matrix products": ("gemm", "nvjet", "cutlass", "cublas", "dot"),
    "decode attention": ("decode_attend",),
    "joining its parts": ("decode_join",),
    "KV and last tokens written": ("scatter",),
    "copies from the host": ("H2D",),
}
"""What names of kernels tell, the first that fits; all others are small ones of XLA: norms, rotation, sums, activation, plan, sampling."""
OTHERS, WAITING = "small kernels", "nothing runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A kernel or copy on the device."""

    name: str
    start_ns: float
    duration_ns: float

    @property
    def end_ns(self) -> float:
        return self.start_ns + self.duration_ns

    @property
    def kind(self) -> str:
        return next((kind for kind, parts in KINDS.items() if any(part in self.name for part in parts)), OTHERS)


def summary(events: Iterable[Event]) -> dict[str, float]:
    """Microseconds of the median step by kind, and how many kernels it has; each step begins with its copy from the host.

    Kernels overlap a little, so that kinds and waiting may add up to more than the step.
    """
    ordered = sorted(events, key=lambda event: event.start_ns)
    begins = [i for i, event in enumerate(ordered) if "H2D" in event.name]
    steps = [ordered[begin : end + 1] for begin, end in pairwise(begins)]
    step = sorted(steps, key=lambda step: step[-1].start_ns - step[0].start_ns)[len(steps) // 2]
    spent, waited, until_ns = defaultdict[str, float](float), 0.0, step[0].start_ns
    for event in step[:-1]:
        waited += max(0.0, event.start_ns - until_ns)
        until_ns = max(until_ns, event.end_ns)
        spent[event.kind] += event.duration_ns
    waited += max(0.0, step[-1].start_ns - until_ns)
    whole = step[-1].start_ns - step[0].start_ns
    named = {kind: spent[kind] / 1e3 for kind in (*KINDS, OTHERS)}
    return {"step": whole / 1e3, **named, WAITING: waited / 1e3, "kernels": len(step) - 1}


def traced(profiler: Profiler, point: Point) -> list[Event]:
    """What the device did while the point was measured."""
    profiler.seconds(point)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            profiler.seconds(point)
        (path,) = Path(folder).rglob("*.xplane.pb")
        planes = [plane for plane in jax.profiler.ProfileData.from_file(str(path)).planes if "GPU" in plane.name]
        lines = [line for plane in planes for line in plane.lines if "tream" in line.name]
        return [Event(name=each.name, start_ns=each.start_ns, duration_ns=each.duration_ns) for line in lines for each in line.events]


def page(runs: Sequence[dict]) -> str:
    """A column for each point."""
    pairs = [(run, row) for run in runs for row in run["values"]["rows"]]
    head = ("us of a step", *(f"{run['config']['model']} {row['what']}" for run, row in pairs))
    lines = [(kind, *(f"{row['us'][kind]:,.0f}" for _, row in pairs)) for kind in pairs[0][1]["us"]]
    machines = sorted({f"{run['device']}, JAX {run['versions']['jax']}, commit {run['commit']}" for run in runs})
    return (
        "# Where does the time of a decode step go?\n\n"
        "Traced steps, launched back to back; the median one of each trace. Kernels of XLA overlap a little where one launches the next\n"
        "early, so that a column may add up to more than its step. Command: `python -m scripts.profile_step`.\n\n"
        f"{results.table(head, lines)}\nMeasured on: {'; '.join(machines)}.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama-3.1-8b", choices=sorted(published.BY_NAME))
    parser.add_argument("--page", action="store_true", help="measure nothing, rewrite the README")
    parser.add_argument("--compilation-cache-dir", default="~/.cache/muxjax/xla")
    args = parser.parse_args()
    if not args.page:
        machine = claim()
        points = [Point(phase=Phase.DECODE, count=rows, context=context) for rows, context in POINTS]
        profiler = Profiler(published.BY_NAME[args.model], points)
        list(profiler.compile())
        rows = [{"what": f"{point.count} x {point.context}", "us": summary(traced(profiler, point))} for point in points]
        record = results.run_record(device=machine.device_kind, config={"model": args.model}, seed=0, values={"rows": rows})
        results.write_runs(QUESTION, args.model, [record])
    text = page(results.read_runs(QUESTION))
    results.write_readme(QUESTION, text)
    print(text)


if __name__ == "__main__":
    main()
