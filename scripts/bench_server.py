"""How many tokens a second get through the server over HTTP, how late, and does any get lost or come twice?

    python -m scripts.bench_server                          # 2,000 streams, on anything
    python -m scripts.bench_server --streams 20 --tokens 8 --keep-nothing
    python -m scripts.bench_server --streams 256 --cores 4  # and what one or two worker processes add, on so many cores

A process serves models that make a token for every stream and turn, at no cost; another opens all streams at once, writes down when
what came, and only then looks at it. One run makes tokens as fast as they may come, one at the rate of the goal.
Writes docs/results/server-load/.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from muxjax.bench.stopwatch import quantile
from muxjax.bench.told import RecordedStream, record_streams
from muxjax.cluster.engine import ClusterEngine
from muxjax.cluster.launcher import LocalHandle
from muxjax.cluster.plan import UnitSpec
from muxjax.cluster.remote_unit import arrived
from muxjax.cluster.wire.frames import UnixAddress
from muxjax.cluster.worker import Worker
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.engine.request_checker import ModelFacts, RequestChecker
from muxjax.engine.stats import Status
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.http.serve import listening, serve, until_signal
from muxjax.server.service import Service
from muxjax.server.text.tokenizer import HfTokenizer
from scripts import made_up, results
from scripts.served import telling
from scripts.server_page import CALM_PER_S, GOAL_PER_S, STEADY, page, summary
from tests.fakes import FakeEngine, FakeLifecycle

QUESTION = "server-load"
MODEL = ModelOptions(name="m", path=Path("made-up"))
CHECKER = RequestChecker(
    models={"m": ModelFacts(config=ModelConfig(name="m", layout=made_up.LAYOUT, slots=1, max_tokens=2**20), status=Status.READY)},
    total_blocks=2**30,
)
FAST_TURN_S = 0.001
"""Far more than the server takes, so that it is what limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """So many streams at once, of so many tokens each, one every turn."""

    streams: int
    tokens: int
    turn_s: float
    workers: int = 0
    """Processes that make the tokens, in place of the server's own."""


Times = dict[str, list[float]]
"""Seconds of each token, by request: `time.monotonic`, which all processes of a machine share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a process leaves of its tokens.

    Args:
      made_s: when each was made; left_s: when all of its turn was there; had_s: when the front had it from a worker.
    """

    made_s: Times = field(default_factory=dict)
    left_s: Times = field(default_factory=dict)
    had_s: Times = field(default_factory=dict)

    def write(self, path: Path, begin_s: float) -> None:
        """Args: begin_s: the process's own time when it began to serve."""
        path.write_text(json.dumps({name: getattr(self, name) for name in self.__slots__} | {"processor_s": time.process_time() - begin_s}))


class TimedEngine(FakeEngine):
    """Remembers when it made each request's tokens, and told of them."""

    def __init__(self, models: list[str], turn_s: float):
        super().__init__(models, turn_s=turn_s)
        self.made_s: Times = defaultdict(list)
        self.left_s: Times = defaultdict(list)

    def start(self, on_outputs) -> None:
        def timed(outputs) -> None:
            now_s = time.monotonic()
            for output in outputs:
                self.made_s[output.request_id].append(output.at_s)
                self.left_s[output.request_id].append(now_s)
            on_outputs(outputs)

        super().start(timed)

    def watch(self, on_job) -> None:
        """Of no job: this one has a job for each request, and a real engine one for hundreds."""

    @property
    def checker(self) -> RequestChecker:
        """As of `Engine`, for what is as long as one likes."""
        return CHECKER


class TimedCluster(ClusterEngine):
    """Remembers when it had each request's tokens from a worker."""

    def start(self, on_outputs) -> None:
        self.had_s: Times = defaultdict(list)

        def timed(outputs) -> None:
            now_s = time.monotonic()
            for output in outputs:
                self.had_s[output.request_id].append(now_s)
            on_outputs(outputs)

        super().start(timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=100, help="of each stream")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep-nothing", action="store_true", help="print the numbers, and write none")
    parser.add_argument("--cores", type=int, help="that all may use, to compare worker processes with the server's own (all, no workers)")
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=float, metavar="TURN_S", help=argparse.SUPPRESS)
    parser.add_argument("--times", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work is not None:
        _work(args.work, args.serve, args.times)
        return
    if args.serve is not None:
        _serve(args.serve, args.times, args.workers)
        return
    if args.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    rates, makers = ((GOAL_PER_S, CALM_PER_S), (0, 1, 2)) if args.cores else ((GOAL_PER_S,), (0,))
    turns = {"as fast as they may": FAST_TURN_S} | {f"{rate:,} a second": args.streams / rate for rate in rates}
    loads = [
        (name, Load(streams=args.streams, tokens=args.tokens, turn_s=turn_s, workers=workers))
        for name, turn_s in turns.items()
        for workers in makers
    ]
    records = [_record(name, load, args.seed, args.cores) for name, load in loads]
    print(summary(records))
    if not args.keep_nothing:
        results.write_runs(QUESTION, "units" if args.cores else "runs", records)
        results.write_readme(QUESTION, page(results.read_runs(QUESTION)))


def _record(name: str, load: Load, seed: int, cores: int | None) -> dict:
    config = {"offered": name, "streams": load.streams, "tokens": load.tokens, "turn_s": load.turn_s}
    config |= {"workers": load.workers, "cores": cores}
    return results.run_record(device=results.host(), config=config, seed=seed, values=measure(load, seed))


def measure(load: Load, seed: int) -> dict:
    """Raises SystemExit: a stream's text is not exactly its tokens'."""
    tokenizer = made_up.tokenizer()
    draw, plain = random.Random(seed), plain_tokens(tokenizer)
    prompts = [tuple(draw.choices(plain, k=load.tokens)) for _ in range(load.streams)]
    bodies = [{"model": "m", "prompt": prompt, "max_tokens": load.tokens, "ignore_eos": True, "stream": True} for prompt in prompts]
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder, "times.json")
        with _serving(load, times) as address:
            answers = asyncio.run(record_streams(address, "/completions", bodies))
        counts = [json.loads(path.read_text()) for path in Path(folder).glob("times*.json")]
    made_s = {name: made for count in counts for name, made in count["made_s"].items()}
    left_s, had_s = ({name: at for count in counts for name, at in count[key].items()} for key in ("left_s", "had_s"))
    steady = ((left, had) for name in had_s for left, had in list(zip(left_s[name], had_s[name], strict=True))[STEADY:])
    hops_s = [had - left for left, had in steady] or [0.0]
    wrong = [fault for prompt, answer in zip(prompts, answers, strict=True) if (fault := fault_of(prompt, answer, tokenizer))]
    if wrong:
        raise SystemExit(f"{len(wrong)} of {load.streams} streams are wrong; the first: {wrong[0]}")
    answered = zip(prompts, answers, strict=True)
    delays_s = [delay for prompt, answer in answered for delay in delays(prompt, answer, made_s, tokenizer)]
    seconds = max(answer.last_s for answer in answers) - min(answer.first_s for answer in answers)
    return {
        "tokens": len(delays_s),
        "seconds": seconds,
        "tokens_per_s": len(delays_s) / seconds,
        "server_processor_s": sum(count["processor_s"] for count in counts),
        "delay_s": {f"p{at}": quantile(delays_s, at) for at in (50, 90, 99, 100)},
        "hop_s": {f"p{at}": quantile(hops_s, at) for at in (50, 90, 99, 100)},
        "load_average": os.getloadavg()[0],
    }


def plain_tokens(tokenizer: HfTokenizer) -> list[int]:
    """Tokens that add visible text wherever they stand, so that none can hide in a character that is not whole yet."""
    return [token for token in range(made_up.VOCAB) if (piece := tokenizer.decode([token])).isascii() and piece.isalnum()]


def fault_of(prompt: tuple[int, ...], answer: RecordedStream, tokenizer: HfTokenizer) -> str:
    """What is lost, doubled or changed in an answer that must repeat its prompt; "" if nothing is."""
    expected, told = _repeated(prompt, tokenizer)[-1], "".join(event.text for event in answer.events)
    if told != expected:
        at = next((i for i, (a, b) in enumerate(zip(told, expected, strict=False)) if a != b), min(len(told), len(expected)))
        return f"{len(told)} characters in place of {len(expected)}, other ones from {at} on: {told[at : at + 20]!r}"
    return "" if answer.complete else "it has no end"


def delays(prompt: tuple[int, ...], answer: RecordedStream, made_s: dict[str, list[float]], tokenizer: HfTokenizer) -> Iterator[float]:
    """Of each token: seconds from its making to the event that told the last of it."""
    ends = [len(text) for text in _repeated(prompt, tokenizer)]
    shown, k = 0, 0
    for event in answer.events:
        shown += len(event.text)
        while k < len(ends) and ends[k] <= shown:
            yield event.at_s - made_s[f"{answer.id}-0"][k]
            k += 1


def _repeated(prompt: tuple[int, ...], tokenizer: HfTokenizer) -> list[str]:
    """All of the answer's text after each of its tokens."""
    before = len(tokenizer.decode(prompt))
    return [tokenizer.decode([*prompt, *prompt[: k + 1]])[before:] for k in range(len(prompt))]


def _serving(load: Load, times: Path) -> AbstractContextManager[str]:
    """The address of a server in a process of its own, which leaves the times of its tokens in that file, and its workers beside it."""
    flags = [f"--serve={load.turn_s}", f"--times={times}", f"--workers={load.workers}"]
    return telling(["-u", "-m", "scripts.bench_server", *flags])


def _serve(turn_s: float, times: Path, workers: int) -> None:
    begin_s = time.process_time()
    if workers:
        kept = Kept(had_s=asyncio.run(_serve_workers(turn_s, times, workers)))
    else:
        engine = TimedEngine(["m"], turn_s)
        asyncio.run(serve(Service(engine, Catalog([made_up.model()])), HttpOptions(port=0, shutdown_timeout_s=1)))
        kept = Kept(made_s=engine.made_s, left_s=engine.left_s)
    kept.write(times, begin_s)


async def _serve_workers(turn_s: float, times: Path, workers: int) -> Times:
    """The same by units elsewhere; tells its address when all are ready. When it had their tokens."""
    specs = [UnitSpec(name=str(i), devices=(i,), options=UnitOptions(models=(MODEL,))) for i in range(workers)]
    engine = TimedCluster(specs, MadeUpLauncher(turn_s, times), report=lambda line: None)
    service = Service(engine, Catalog([made_up.model()]))
    async with listening(service, HttpOptions(port=0, shutdown_timeout_s=1)) as address:
        await arrived(engine.units.values())
        print(address, flush=True)
        await until_signal(service, 1.0)
    return engine.had_s


class MadeUpLauncher:
    """Starts workers that make tokens up."""

    def __init__(self, turn_s: float, times: Path):
        self._turn_s, self._times = turn_s, times

    async def start(self, spec: UnitSpec) -> LocalHandle:
        socket, times = self._times.with_name(f"{spec.name}.sock"), self._times.with_name(f"times-{spec.name}.json")
        command = [sys.executable, "-m", "scripts.bench_server", f"--work={socket}", f"--serve={self._turn_s}", f"--times={times}"]
        process = subprocess.Popen(command, cwd=results.ROOT, start_new_session=True)
        return LocalHandle(UnixAddress(socket), socket.with_suffix(".pid"), process.pid, process)


class MadeUp(NamedTuple):
    """A unit whose engine makes tokens up."""

    device: str
    options: UnitOptions
    engine: TimedEngine
    lifecycle: FakeLifecycle


def _work(socket: Path, turn_s: float, times: Path) -> None:
    engine = TimedEngine(["m"], turn_s)
    begin_s = time.process_time()
    Worker(lambda options, *tells: MadeUp("none", options, engine, FakeLifecycle(["m"]))).run(UnixAddress(socket))  # pyright: ignore[reportArgumentType]
    Kept(made_s=engine.made_s, left_s=engine.left_s).write(times, begin_s)


if __name__ == "__main__":
    main()
