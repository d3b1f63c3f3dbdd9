"""How long does the host take to launch a step, of one model and of several in turns?

    python -m scripts.bench_launches [--model llama-3.2-1b]     on a GPU, a minute and what its programs take to compile
    python -m scripts.bench_launches --tiny                     anywhere: whether it runs, no more
    python -m scripts.bench_launches --page                     only rewrites the README from the lines there are

XLA runs a step as a CUDA graph, which it updates where a buffer of it lies elsewhere than the last time: its input, which comes from the
host, its results as long as somebody has the last ones, and where models take turns in a lane, what one of them leaves behind moves the
next one's. "Nothing" moves where the input stays on the device and nobody keeps results. Run it once more with
XLA_FLAGS=--xla_gpu_command_buffer_update_mode=SKIP_TEMP or XLA_PYTHON_CLIENT_ALLOCATOR=cuda_async: each is a line of its own.
Writes docs/results/launches/.
"""

import argparse
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product

import jax

from muxjax.device.lanes.clients import ALLOCATOR
from muxjax.device.profile import Point, Profiler, claim
from muxjax.specs import published
from muxjax.types import Phase
from muxjax.units import show_s
from scripts import results
from scripts.serving import TINY

QUESTION = "launches"
POINTS = tuple(Point(phase=Phase.DECODE, count=rows, context=512) for rows in (8, 32))
IN_TURN = (1, 4)
BURST, REPEATS = 24, 5
"""Steps that are launched without a wait, fewer than those that a client of XLA lets be in flight; and how often."""
TOLD = ("XLA_FLAGS", ALLOCATOR)
MOVES = ("input and results", "nothing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama-3.2-1b", choices=sorted(published.BY_NAME))
    parser.add_argument("--tiny", action="store_true", help="a tiny model, written nowhere")
    parser.add_argument("--page", action="store_true", help="measure nothing, rewrite the README")
    parser.add_argument("--compilation-cache-dir", default="~/.cache/muxjax/xla")
    args = parser.parse_args()
    lines = [] if args.page else list(measured(args))
    if not args.tiny:
        anew = set(map(_key, lines))
        kept = [line for line in results.read_runs(QUESTION) if _key(line) not in anew]
        results.write_runs(QUESTION, "runs", [*kept, *lines])
        lines = results.read_runs(QUESTION)
        results.write_readme(QUESTION, page(lines))
    print(page(lines))


def measured(args: argparse.Namespace) -> Iterable[dict]:
    """A line for each number of models, each point, and what moves."""
    machine, spec = claim(), TINY if args.tiny else published.BY_NAME[args.model]
    models = [Profiler(spec, POINTS, programs="" if args.tiny else args.compilation_cache_dir) for _ in range(max(IN_TURN))]
    for model in models:
        list(model.compile())
    for count, point, moves in product(IN_TURN, POINTS, MOVES):
        config = {"model": args.model, "in_turn": count, "rows": point.count, "context": point.context, "moves": moves}
        config |= {name: os.environ.get(name, "") for name in TOLD}
        launchers = [(model.launcher if moves == MOVES[0] else partial(still, model))(point) for model in models[:count]]
        values = burst(launchers, kept=BURST if moves == MOVES[0] else 1)
        yield results.run_record(device=machine.device_kind, config=config, seed=0, values=values)


def still(model: Profiler, point: Point) -> Callable[[], jax.Array]:
    """As `Profiler.launcher`, of a step whose input is on the device."""
    packed, shape = model.packed(point)
    there = jax.device_put(packed, model.model.last_S.sharding)

    def launch() -> jax.Array:
        lane = model.executor.lanes[0]
        arrays = model.model.run(there, shape, lane.pools.under(model.model.devices))
        lane.pools = lane.pools.replaced(arrays.blocks_NE)
        return arrays.tokens_B

    return launch


def burst(launchers: Sequence[Callable[[], jax.Array]], *, kept: int) -> dict[str, float]:
    """Seconds of a step: of the host until it is launched, and of both until it has ended; medians.

    Args:
      kept: results at a time that somebody has.
    """
    launched, ended = [], []
    for _ in range(1 + REPEATS):
        tokens, started = deque[jax.Array](maxlen=kept), time.perf_counter()
        for i in range(BURST):
            tokens.append(launchers[i % len(launchers)]())
        launched.append((time.perf_counter() - started) / BURST)
        jax.block_until_ready(list(tokens))
        ended.append((time.perf_counter() - started) / BURST)
    return {"launch_s": statistics.median(launched[1:]), "step_s": statistics.median(ended[1:])}


def page(lines: Iterable[dict]) -> str:
    """For people."""
    rows = []
    for line in lines:
        config, found = line["config"], line["values"]
        flags = " ".join(f"{name}={config[name]}" for name in TOLD if config[name])
        shape = f"{config['rows']} x {config['context']}"
        times = show_s(found["launch_s"]), show_s(found["step_s"])
        rows.append((line["device"], config["model"], shape, config["in_turn"], config["moves"], *times, flags))
    head = ("device", "model", "rows x context", "models in turn", "moves", "the host launches", "a step", "with")
    title = "# How long does the host take to launch a step, of one model and of several in turns?"
    about = (
        f"Decodes with random weights, {BURST} launched without a wait. Where a launch takes as long as a step, the device waits for the"
        " host. Command: `python -m scripts.bench_launches`."
    )
    return "\n\n".join([title, about, results.table(head, rows)])


def _key(line: dict) -> str:
    return str((line["device"], sorted(line["config"].items())))


if __name__ == "__main__":
    main()
