"""How long does the host take to launch a step, of one model and of several?

    python -m scripts.bench_launches [--model llama-3.2-1b]     on a GPU, a minute and what its programs take to compile
    python -m scripts.bench_launches --tiny                     anywhere: whether it runs, no more
    python -m scripts.bench_launches --page                     only rewrites the README from the lines there are

XLA runs a step as one CUDA graph, and updates what of it names a buffer that lies elsewhere than the last time; products and kernels of
ours are graphs of their own in it, captured anew unless one of the last sixteen is for just these addresses. What moves is the input, which
comes from the host, results as long as somebody has the last ones, and with them what a step needs while it runs: where models take turns
in a lane, what one leaves behind moves the next one's. "Nothing" moves where the input stays on the device and nobody keeps results. Models
in lanes of their own are launched one after the other, or from a thread each, as the server does it. Run it once more with each of
  XLA_FLAGS=--xla_cmd_buffer_trace_cache_size=256
  XLA_FLAGS=--xla_gpu_command_buffer_update_mode=SKIP_TEMP (or SKIP_PROFILED)
  XLA_FLAGS=--xla_gpu_command_buffer_scheduling_mode=CONCURRENT_REGIONS
  XLA_PYTHON_CLIENT_USE_TFRT_GPU_CLIENT=1, a client that launches from a thread of its own
Each is a line of its own. Writes docs/results/launches/.
"""

import argparse
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product

import jax

from muxjax.device.lanes.clients import ALLOCATOR, seen_again
from muxjax.device.profile import MEMORY_FRACTION, Point, Profiler, claim
from muxjax.models.sharding import Devices
from muxjax.specs import published
from muxjax.types import Phase
from muxjax.units import show_s
from scripts import results
from scripts.serving import TINY

QUESTION = "launches"
POINTS = tuple(Point(phase=Phase.DECODE, count=rows, context=512) for rows in (8, 32))
BURST, REPEATS = 24, 5
"""Steps that are launched without a wait, fewer than those that a client of XLA lets be in flight; and how often."""
TOLD = ("XLA_FLAGS", ALLOCATOR, "XLA_PYTHON_CLIENT_USE_TFRT_GPU_CLIENT")
MODELS = 4
WAYS = {1: {"one alone": (1, 1), "4 in one lane": (4, 1)}, 4: {"4 in lanes": (4, 1), "4 in lanes, a thread each": (4, 4)}}
"""By lanes, of so many models, launched by so many threads."""
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
    """A line for each way to launch, each point, and what moves."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # lanes share the memory
    os.environ.setdefault(ALLOCATOR, "cuda_async")  # as where a server has more models than lanes
    machine = claim()
    for lanes in WAYS:
        for config, values in _measured_in(lanes, args):
            config |= {"model": args.model} | {name: os.environ.get(name, "") for name in TOLD}
            yield results.run_record(device=machine.device_kind, config=config, seed=0, values=values)


def _measured_in(lanes: int, args: argparse.Namespace) -> Iterator[tuple[dict[str, object], dict[str, float]]]:
    """Ways to launch with so many lanes, whose models go before others come."""
    models = list(_models(args, lanes))
    for (way, (count, threads)), point, moves in product(WAYS[lanes].items(), POINTS, MOVES):
        launchers = [(model.launcher if moves == MOVES[0] else partial(still, model))(point) for model in models[:count]]
        values = burst(launchers, threads=threads, kept=BURST if moves == MOVES[0] else 1)
        yield {"way": way, "rows": point.count, "context": point.context, "moves": moves}, values


def _models(args: argparse.Namespace, lanes: int) -> Iterator[Profiler]:
    """Models that are ready, in so many lanes, of which the first is JAX's own client."""
    spec = TINY if args.tiny else published.BY_NAME[args.model]
    own = Devices.first(1)
    devices = [own, *(Devices((seen_again(own.each[0], MEMORY_FRACTION),)) for _ in range(lanes - 1))]
    for place in range(MODELS):
        model = Profiler(spec, POINTS, devices=devices[place % lanes], programs="" if args.tiny else args.compilation_cache_dir)
        list(model.compile())
        yield model


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


def burst(launchers: Sequence[Callable[[], jax.Array]], *, threads: int, kept: int) -> dict[str, float]:
    """Seconds of a step: of the host until it is launched, and of both until it has ended; medians.

    Args:
      threads: that launch, each its share of the launchers.
      kept: results at a time that somebody has.
    """

    def launch(own: Sequence[Callable[[], jax.Array]]) -> list[jax.Array]:
        tokens = deque[jax.Array](maxlen=kept)
        for _, launcher in product(range(BURST // len(launchers)), own):
            tokens.append(launcher())
        return list(tokens)

    launched, ended = [], []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(1 + REPEATS):
            started = time.perf_counter()
            tokens = list(pool.map(launch, [launchers[first::threads] for first in range(threads)]))
            launched.append((time.perf_counter() - started) / BURST)
            jax.block_until_ready(tokens)
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
        rows.append((line["device"], config["model"], shape, config["way"], config["moves"], *times, flags))
    head = ("device", "model", "rows x context", "models", "moves", "the host launches", "a step", "with")
    title = "# How long does the host take to launch a step, of one model and of several?"
    about = (
        f"Decodes with random weights, {BURST} launched without a wait. Where a launch takes as long as a step, the device waits for the"
        " host. Command: `python -m scripts.bench_launches`."
    )
    return "\n\n".join([title, about, results.table(head, rows)])


def _key(line: dict) -> str:
    return str((line["device"], sorted(line["config"].items())))


if __name__ == "__main__":
    main()
