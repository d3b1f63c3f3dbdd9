"""Two units behind one front: how much do they serve, how soon is a killed worker back, and what does a change of plan cost the others?

    python -m scripts.bench_units              # on two GPUs: LLaMA 3's 8B, 3B and 1B on each
    python -m scripts.bench_units --parts restart --name restart   # on one GPU: the killed worker alone
    python -m scripts.bench_units --tiny       # toy models, on CPUs: whether it runs, no more
    python -m scripts.bench_units --page       # only rewrites the page from the lines there are

The front has no HTTP here, which `scripts.bench_server --cores` measures. Writes docs/results/units/.
"""

import argparse
import itertools
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

from muxjax.cluster.engine import ClusterEngine
from muxjax.cluster.launcher import LocalLauncher, running
from muxjax.cluster.mover import Mover
from muxjax.cluster.plan import UnitSpec
from muxjax.cluster.remote_unit import UnitState
from muxjax.engine.engine import OnOutputs
from muxjax.engine.options import UnitOptions
from muxjax.server.background import BackgroundLoop
from muxjax.specs.dummy import write_dummy_models
from muxjax.types import Request
from muxjax.workload.metrics import percentiles
from muxjax.workload.trace import Arrival
from scripts import results
from scripts.colocation import ways
from scripts.colocation.child import Clients, Seen, measures

QUESTION = "units"
FIRST, SECOND = "0", "1"
OVERLOAD, LOAD_S = 3.0, 13.0
"""Times the rates of x1, and for how long, in seconds of the trace so scaled."""
BUSY_S, CHANGE_AT_S, KILL_AT_S = 24.0, 8.0, 4.0
MOVED, KILLED = "1b", "8b"
READY_S = 600.0


class Front:
    """A cluster's engine as another thread's clients use it."""

    def __init__(self, engine: ClusterEngine, loop: BackgroundLoop):
        self.engine, self.loop = engine, loop

    def start(self, on_outputs: OnOutputs) -> None:
        async def start() -> None:
            self.engine.start(on_outputs)

        self.loop.run(start())

    def submit(self, request: Request) -> None:
        async def submit() -> None:
            self.engine.submit(request)

        self.loop.run(submit())

    def wait_for(self, holds: Callable[[], bool]) -> float:
        """Seconds until it does.

        Raises:
          SystemExit: it takes too long, or a unit has failed.
        """
        began_s = time.monotonic()
        while not holds():
            failed = [unit.trouble for unit in self.engine.units.values() if unit.state is UnitState.FAILED]
            if failed or time.monotonic() - began_s > READY_S:
                raise SystemExit(f"a unit does not come: {'; '.join(failed)}")
            time.sleep(0.02)
        return time.monotonic() - began_s

    def add(self, spec: UnitSpec) -> float:
        """Seconds until one more unit is ready."""

        async def add() -> None:
            self.engine.add_unit(spec)

        self.loop.run(add())
        return self.wait_for(lambda: self.engine.units[spec.name].state is UnitState.READY)

    def move(self, *specs: UnitSpec) -> float:
        """Seconds until these units serve, and no others."""
        began_s = time.monotonic()
        self.loop.run(Mover(self.engine, drain_s=10.0).move(specs))
        return time.monotonic() - began_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What the parts of a run share.

    Args:
      options: of a unit with all models; lines: what the workers said of their starts, as they came.
    """

    front: Front
    clients: Clients
    options: UnitOptions
    sockets: Path
    lines: list[str]
    seed: int
    tiny: bool

    def spec(self, name: str, *models: str) -> UnitSpec:
        own = tuple(model for model in self.options.models if model.name in (models or ways.MODELS))
        lanes = min(self.options.lanes or 1, len(own))
        return UnitSpec(name=name, devices=(int(name),), options=replace(self.options, models=own, lanes=lanes))

    def replay(self, scale: float, seconds: float, model: str | None = None) -> list[Seen]:
        """The requests of x1, of one model or of all, so many times as fast, for so long; toys are asked a few."""
        arrivals = [arrival for arrival in ways.trace(self.seed, scale, seconds * scale) if model in (None, arrival.model)]
        if self.tiny:
            arrivals = [Arrival(arrival.time_s, arrival.model, 20, 20) for arrival in arrivals[:: max(1, len(arrivals) // 60)]]
        return self.clients.replay(arrivals, self.seed)[0]

    def kill(self, name: str) -> float:
        """Kills a worker; when."""
        pid = running(self.sockets / f"unit-{name}.pid")
        assert pid is not None, "there is no worker to kill"
        os.kill(pid, signal.SIGKILL)
        return time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--programs", default="~/.cache/muxjax/xla", help="folder where compiled programs are kept")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--name", default="runs", help="of the file of lines (%(default)s)")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--page", action="store_true")
    args = parser.parse_args()
    if args.page:
        results.write_readme(QUESTION, page(results.read_runs(QUESTION)))
        return
    records = []
    with tempfile.TemporaryDirectory() as folder:
        programs = str(Path(folder, "programs")) if args.tiny else args.programs
        with started(Path(folder), programs, args.seed, args.tiny) as bench:
            for part in args.parts:
                for config, values in PARTS[part](bench):
                    print(config, {name: value for name, value in values.items() if not isinstance(value, dict | list)}, flush=True)
                    records.append(results.run_record(device=device(args.tiny), config=config, seed=args.seed, values=values))
                    if not args.tiny:
                        results.write_runs(QUESTION, args.name, records)
    print(page(records))


@contextmanager
def started(folder: Path, programs: str, seed: int, tiny: bool) -> Iterator[Bench]:
    """A cluster whose first unit is ready."""
    specs = {
        name: ways.TINY if tiny else shape for name, shape in ways.Case(way="mux", loads=(), seed=0, programs="", tiny=tiny).specs.items()
    }
    more = {"lanes": 3, "policy": "mux", "wait_for_all": not tiny}
    options = ways.unit(write_dummy_models(folder, specs), programs=programs, slots=16 if tiny else ways.SLOTS, tiny=tiny, more=more)
    lines: list[str] = []
    launcher, loop = LocalLauncher(folder=folder / "workers"), BackgroundLoop()
    engine = ClusterEngine((), launcher, report=lambda line: lines.append(f"{time.monotonic():.3f} {line}"), silence_s=60.0)
    for model in options.models:
        engine.learn(model, specs[model.name])
    front = Front(engine, loop)
    clients = Clients(front, {name: spec.vocab for name, spec in specs.items()})  # pyright: ignore[reportArgumentType]
    bench = Bench(front=front, clients=clients, options=options, sockets=folder / "workers", lines=lines, seed=seed, tiny=tiny)
    try:
        yield bench
    finally:
        engine.stop()
        loop.close()


Part = Iterator[tuple[dict[str, Any], dict[str, Any]]]


def throughput(bench: Bench) -> Part:
    """One unit, and then two, at as much more than each can serve."""
    served = []
    for units, name in ((1, FIRST), (2, SECOND)):
        start_s = bench.front.add(bench.spec(name))
        bench.clients.replay([Arrival(0.0, model, 20, 10) for model in ways.MODELS for _ in range(6)], bench.seed)
        told = measures(bench.replay(OVERLOAD * units, LOAD_S), [])
        served.append(told["requests_per_s"])
        told |= {"start_s": start_s, "faults": bench.clients.faults[:5], "of_one": served[-1] / served[0]}
        yield {"part": "throughput", "units": units}, told


def restart(bench: Bench) -> Part:
    """A worker of one model killed while it serves, with all programs kept, of which it waits for those that hold every step."""
    spec = bench.spec(FIRST, KILLED)
    if FIRST not in bench.front.engine.units:
        bench.front.add(spec)
    quick = replace(spec, options=replace(spec.options, wait_for_all=False))
    bench.front.move(*[unit.spec for name, unit in bench.front.engine.units.items() if name != FIRST], quick)
    with beside(lambda: bench.replay(1.0, BUSY_S / 2, KILLED)) as seen:
        time.sleep(KILL_AT_S)
        said, killed_s, unit = len(bench.lines), bench.kill(FIRST), bench.front.engine.units[FIRST]
        bench.front.wait_for(lambda: unit.state is not UnitState.READY)
        bench.front.wait_for(lambda: unit.state is UnitState.READY)
        ready_s = time.monotonic() - killed_s
    lines = [f"{float(line.split()[0]) - killed_s:.2f} s {line.partition(' ')[2]}" for line in bench.lines[said:]]
    yield (
        {"part": "restart", "models": [KILLED], "waits_for": "those that hold every step"},
        {"ready_s": ready_s, "lines": lines, **sound(seen.result(), bench)},
    )


def change(bench: Bench) -> Part:
    """A model moves to another unit while all stream; the gaps between tokens of those that stay where they are."""
    bench.front.move(bench.spec(FIRST), bench.spec(SECOND, "8b"))
    with beside(lambda: bench.replay(1.0, BUSY_S)) as seen:
        time.sleep(CHANGE_AT_S)
        began_s = time.monotonic()
        seconds = bench.front.move(bench.spec(FIRST, "8b", "3b"), bench.spec(SECOND, "8b", MOVED))
    requests = seen.result()
    values: dict[str, Any] = {"move_s": seconds, **sound(requests, bench)}
    for model in ("8b", "3b"):
        before = gaps_s(requests, model, 0.0, began_s)
        during = gaps_s(requests, model, began_s, began_s + seconds)
        values[f"{model} gap"] = {"before": percentiles(before), "during": percentiles(during)}
    yield {"part": "change", "moved": MOVED}, values


PARTS: Mapping[str, Callable[[Bench], Part]] = {"throughput": throughput, "restart": restart, "change": change}


def sound(seen: list[Seen], bench: Bench) -> dict[str, Any]:
    """Requests that did not get just the tokens that they asked for."""
    wrong = [one for one in seen if len(one.at_s) != one.arrival.output_tokens]
    return {"requests": len(seen), "wrong": len(wrong), "faults": bench.clients.faults[:5]}


def gaps_s(seen: list[Seen], model: str, begin_s: float, end_s: float) -> list[float]:
    """Between tokens of a model, of which the later one came then."""
    own = [one.at_s for one in seen if one.arrival.model == model]
    return [late - early for times in own for early, late in itertools.pairwise(times) if begin_s < late <= end_s] or [0.0]


@contextmanager
def beside(work: Callable[[], list[Seen]]) -> "Iterator[Future[list[Seen]]]":
    """Does some work in a thread while the block runs, and waits for it."""
    done: Future[list[Seen]] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    thread = Thread(target=run)
    thread.start()
    yield done
    thread.join()


def device(tiny: bool) -> str:
    """What the units run on."""
    if tiny:
        return results.host()
    names = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=True).stdout
    return ", ".join(names.split("\n")).strip(", ")


def page(runs: list[dict[str, Any]]) -> str:
    """The answer for people."""
    by_part: Mapping[str, list[dict[str, Any]]] = {part: [run for run in runs if run["config"]["part"] == part] for part in PARTS}
    rows = [
        (run["config"]["units"], f"{run['values']['requests_per_s']:.1f}", f"{run['values']['tokens_per_s']:,.0f}")
        + (f"{run['values']['of_one']:.2f}", f"{run['values']['start_s']:.1f}", len(run["values"]["faults"]))
        for run in by_part["throughput"]
    ]
    parts = [HEAD.format(device=runs[-1]["device"].split(",")[0], commits=", ".join(sorted({run["commit"][:7] for run in runs})))]
    parts.append(results.table(("units", "requests/s", "tokens/s", "of one", "s to ready", "faults"), rows))
    for run in by_part["restart"]:
        values = run["values"]
        waits_for, requests = run["config"]["waits_for"], f"{values['wrong']} of {values['requests']} requests were wrong or lost"
        parts.append(
            f"**A worker of {', '.join(run['config']['models'])} killed under load** is ready again in {values['ready_s']:.1f} s, with all "
            f"programs kept, of which it waits for {waits_for}; {requests}. What the new worker said, and when:"
        )
        parts.append("\n".join(f"- {line}" for line in values["lines"]))
    for run in by_part["change"]:
        values = run["values"]
        gaps = [
            (model, *(f"{1e3 * values[f'{model} gap'][when]['p99']:.1f} ms" for when in ("before", "during"))) for model in ("8b", "3b")
        ]
        ratios = [values[f"{model} gap"]["during"]["p99"] / max(1e-9, values[f"{model} gap"]["before"]["p99"]) for model in ("8b", "3b")]
        parts.append(
            f"**{run['config']['moved']} moved to the other unit** in {values['move_s']:.1f} s while all streamed; {values['wrong']} of "
            f"{values['requests']} requests were wrong or lost. The 99th percentile of the gaps between tokens of the others:"
        )
        parts.append(
            results.table(("model", "before", "during", "ratio"), [(*row, f"{ratio:.2f}") for row, ratio in zip(gaps, ratios, strict=True)])
        )
    return "\n\n".join(parts)


HEAD = """# Two units behind one front: how much do they serve, how soon is a killed worker back, and what does a change of plan cost?

LLaMA 3's 8B, 3B and 1B with random weights on each of two devices ({device}), a process each, behind one front without HTTP. Requests as
of `scripts.bench_colocation`: three times the rates of x1 for each unit. Command: `python -m scripts.bench_units`; commits {commits}."""


if __name__ == "__main__":
    main()
