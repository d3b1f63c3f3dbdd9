"""How much faster is a step on two devices, and how near the hardware's floor is one of a model too large for one?

    python -m scripts.bench_tensor_parallel                  # on two GPUs, in some minutes
    python -m scripts.bench_tensor_parallel --cases 8b-2     # one case, or some
    python -m scripts.bench_tensor_parallel --tiny           # anywhere: whether it runs, no more
    python -m scripts.bench_tensor_parallel --page           # only rewrites the README from the lines there are

Random weights of published shapes, and the programs that serve, all of which are compiled at once while the first cases are measured.
Each case is a process of its own, and is written when it is there.
Every figure stands against rates measured in the same process. Writes docs/results/tensor-parallel/.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from muxjax.cost.chip import H200, MeshSpec
from muxjax.cost.roofline import decode_work, prefill_work
from muxjax.device.profile import Point, Profiler, claim, sources
from muxjax.device.programs.filling import Filling
from muxjax.device.programs.target import attached
from muxjax.model_spec import ModelSpec
from muxjax.models.sharding import AXIS, Devices
from muxjax.specs import published
from muxjax.types import Phase
from scripts import results
from scripts.ceilings import measure, seconds
from scripts.serving import TINY

QUESTION = "tensor-parallel"
GOALS = {"decode": 0.62, "prefill": 0.58, "floor": 1.35}
"""Of two devices against one, decode and prefill; of a large model's decode over its floor."""
SUMS = 64
"""In a row, of which one is timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model on so many devices, under flags of XLA's beside those that serve."""

    model: str
    tp: int
    flags: str = ""


_NCCL = "--xla_gpu_experimental_use_collective_kernels=-ALL_REDUCE"

CASES = {
    "8b-1": Case(model="llama-3.1-8b", tp=1),
    "8b-2": Case(model="llama-3.1-8b", tp=2),
    "70b-2": Case(model="llama-3.1-70b", tp=2),
    "8b-2-graph": Case(model="llama-3.1-8b", tp=2, flags=f"{_NCCL} --xla_gpu_enable_command_buffer=+COLLECTIVES"),
    "8b-2-nccl": Case(model="llama-3.1-8b", tp=2, flags=_NCCL),
}
"""The last ones ask what sums cost: by NCCL with all of the step in one CUDA graph, and by NCCL between graphs."""

SIZES = {Phase.DECODE: (32, 1024), Phase.PREFILL: (2048, 1024)}
TINY_SIZES = {Phase.DECODE: (4, 64), Phase.PREFILL: (64, 32)}
"""Count and context of the points."""


def run_here(case: Case, programs: str, *, tiny: bool) -> dict[str, Any]:
    """Measures a case in this process."""
    claim()
    spec, sizes = (TINY, TINY_SIZES) if tiny else (published.BY_NAME[case.model], SIZES)
    ceilings = measure(tiny=tiny)
    points = _points(sizes)
    started = time.perf_counter()
    profiler = Profiler(spec, points, devices=Devices.first(case.tp), programs=programs)
    loaded = time.perf_counter()
    for _ in profiler.compile():
        pass
    values: dict[str, Any] = {"flops_per_s": ceilings.flops_per_s, "bytes_per_s": ceilings.bytes_per_s}
    values |= {"load_s": loaded - started, "compile_s": time.perf_counter() - loaded, "links": _links()}
    values["sums"] = {"prefill" if shape.prefill_rows else "decode": _sums(each) for shape, each in profiler.steps.items()}
    values["points"] = {}
    for point in points:
        floor_s = _work(spec, case.tp, point).floor_s(flops_per_s=ceilings.flops_per_s, bytes_per_s=ceilings.bytes_per_s)
        measured = {"measured_s": profiler.seconds(point), "floor_s": floor_s}
        alone = _sum_alone(Devices.first(case.tp), point.count, spec) if case.tp > 1 else {}
        values["points"][point.phase.name.lower()] = measured | alone
    return values


def fill(case: Case, programs: str) -> None:
    """Compiles a case's programs without a GPU, for chips with NVLinks, as they are shipped."""
    filling = Filling.of("h200", case.tp, Path(programs).expanduser())
    places = tuple(range(case.tp))
    wanted = [(source, places) for source in sources(published.BY_NAME[case.model], _points(SIZES), filling.devices)]
    for (source, _), trouble in filling.fill([program for program in wanted if filling.kept_bytes(*program) is None]):
        if trouble:
            print(f"{case.model}: {type(source).__name__}: {trouble}", flush=True)


def _points(sizes: dict[Phase, tuple[int, int]]) -> list[Point]:
    return [Point(phase=phase, count=count, context=context) for phase, (count, context) in sizes.items()]


def _work(spec: ModelSpec, tp: int, point: Point):
    mesh = MeshSpec(chip=H200, tp=tp)
    if point.phase is Phase.DECODE:
        return decode_work(spec, mesh, point.count, point.count * point.context)
    return prefill_work(spec, mesh, point.count, point.mean_context)


def _links() -> int | None:
    """NVLinks of the first device by the description that programs are compiled for; None where it names none."""
    chip = attached(jax.devices()[0])
    found = re.search(r"active_links: (\d+)", chip.description) if chip else None
    return int(found[1]) if found else None


def _sums(program: jax.stages.Compiled) -> dict[str, int]:
    """Sums of a program over the devices, by what computes them."""
    text = program.as_text() or ""
    kinds = {name: text.count(f"KERNEL_STRATEGY_TRITON_{name.upper()}") for name in ("one_shot", "two_shot")}
    return kinds | {"nccl": len(re.findall(r' all-reduce(?:-start)?\(.*"KERNEL_STRATEGY_DEFAULT"', text))}


def _sum_alone(devices: Devices, rows: int, spec: ModelSpec) -> dict[str, Any]:
    """Seconds of one sum of so many rows of the model's width, within a program of many that this process compiles."""

    def row_of_sums(x):
        for _ in range(SUMS):
            x = jax.lax.psum(x, AXIS) * jnp.bfloat16(0.5)
        return x

    same = PartitionSpec()
    x = jax.device_put(jnp.ones((rows, spec.width), jnp.bfloat16), devices.sharding(same))
    program = jax.jit(jax.shard_map(row_of_sums, mesh=devices.mesh, in_specs=same, out_specs=same, check_vma=False)).lower(x).compile()
    sum_s = seconds(lambda calls: [program(x) for _ in range(calls)][-1], calls=4) / SUMS
    return {"sum_s": sum_s, "sum_is": _sums(program)}


def run_elsewhere(name: str, args: argparse.Namespace) -> dict[str, Any] | None:
    """What a process of its own measures; None if it fails, which it tells itself."""
    with tempfile.NamedTemporaryFile() as answer:
        done = _begun(name, args, "--answer", answer.name, *["--tiny"] * args.tiny).wait()
        return None if done else json.loads(Path(answer.name).read_text())


def _begun(name: str, args: argparse.Namespace, *more: str, **variables: str) -> subprocess.Popen[bytes]:
    """A process of this script for one case, under its flags."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {CASES[name].flags}".strip()
    environment = os.environ | ({"XLA_FLAGS": flags} if flags else {}) | variables
    command = [
        sys.executable,
        "-m",
        "scripts.bench_tensor_parallel",
        "--cases",
        name,
        "--compilation-cache-dir",
        args.compilation_cache_dir,
    ]
    return subprocess.Popen([*command, *more], env=environment, cwd=results.ROOT)


def page(runs: Sequence[dict[str, Any]]) -> str:
    """The README."""
    found = {run["config"]["case"]: run["values"] for run in runs}
    return f"""# Steps on two devices

**Question.** {(__doc__ or "").splitlines()[0]}

**Command.** `python -m scripts.bench_tensor_parallel`, on two GPUs.

**Answer.** {" ".join(_answers(found))}

{results.table(["case", "step", "measured", "floor", "over the floor", "sums in it", "a sum alone"], _rows(found))}

Decode is of 32 rows at 1,024 tokens of context, prefill of one prompt of 2,048. The floor is the larger of a device's share of the
arithmetic and of the bytes over the rates of a matrix product and of a copy, measured in the same process; sums are not in it.
The cases behind the first three ask what sums cost: by NCCL with all of the step in one CUDA graph, and by NCCL between graphs.
"""


def _answers(found: dict[str, dict[str, Any]]) -> list[str]:
    told = []
    for step in ("decode", "prefill"):
        if {"8b-1", "8b-2"} <= found.keys():
            ratio = found["8b-2"]["points"][step]["measured_s"] / found["8b-1"]["points"][step]["measured_s"]
            told.append(f"A {step} of the 8B model takes {ratio:.3f} of its time on one device ({_verdict(ratio, GOALS[step])}).")
    if "70b-2" in found:
        point = found["70b-2"]["points"]["decode"]
        ratio = point["measured_s"] / point["floor_s"]
        told.append(f"A decode of the 70B shape takes {ratio:.3f} of its floor ({_verdict(ratio, GOALS['floor'])}).")
    return told or ["Not measured yet."]


def _verdict(ratio: float, goal: float) -> str:
    return f"the goal of {goal} at most is {'met' if ratio <= goal else 'missed'}"


def _rows(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    rows = []
    for name, values in found.items():
        for step, point in values["points"].items():
            measured_s, floor_s = point["measured_s"], point["floor_s"]
            sums = ", ".join(f"{count} {kind}" for kind, count in values["sums"][step].items() if count)
            alone = f"{1e6 * point['sum_s']:.1f} us" if "sum_s" in point else ""
            rows.append([name, step, f"{1e3 * measured_s:.3f} ms", f"{1e3 * floor_s:.3f} ms", f"{measured_s / floor_s:.3f}", sums, alone])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--within", type=float, default=300, help="seconds after which no further case is begun (300)")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and small numbers, written nowhere")
    parser.add_argument("--page", action="store_true", help="measure nothing, rewrite the README")
    parser.add_argument("--fill", action="store_true", help="compile the case's programs in this process, which needs no GPU")
    parser.add_argument("--answer", type=Path, help="measure the case in this process, and write what comes of it there")
    parser.add_argument("--compilation-cache-dir", default="~/.cache/muxjax/xla")
    args = parser.parse_args()
    if args.answer:
        values = run_here(CASES[args.cases[0]], "" if args.tiny else args.compilation_cache_dir, tiny=args.tiny)
        args.answer.write_text(json.dumps({"device": jax.devices()[0].device_kind, "values": values}))
        return
    if args.fill:
        fill(CASES[args.cases[0]], args.compilation_cache_dir)
        return
    started, names = time.monotonic(), [] if args.page else args.cases
    fills = {} if args.tiny else {name: _begun(name, args, "--fill", JAX_PLATFORMS="cpu") for name in names}
    for name in names:
        if name in fills:
            fills[name].wait()
        if time.monotonic() - started > args.within:
            print(f"{name}: not begun, after {time.monotonic() - started:.0f} s", flush=True)
            continue
        answer = run_elsewhere(name, args)
        print(f"{name}, {time.monotonic() - started:.0f} s: {answer and answer['values']}", flush=True)
        if answer and not args.tiny:
            config = {"case": name, **asdict(CASES[name])}
            results.write_runs(
                QUESTION, name, [results.run_record(device=answer["device"], config=config, seed=0, values=answer["values"])]
            )
    if not args.tiny:
        text = page(results.read_runs(QUESTION))
        results.write_readme(QUESTION, text)
        print(text)


if __name__ == "__main__":
    main()
