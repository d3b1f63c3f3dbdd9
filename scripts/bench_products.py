"""How fast is our matrix product within a share of the multiprocessors, and what does it leave to a neighbour?

    python -m scripts.bench_products                   # on a GPU
    python -m scripts.bench_products --only beside     # or products
    python -m scripts.bench_products --tiny            # anywhere: whether it runs

The four matrices of a layer, several products of one program with operands of their own, by cuBLASLt and by `pallas/product.py` within each
share. Then `models/decoder.py` without attention: layers of a prefill of 2,048 tokens beside all layers with 32 rows, which read weights as
a decode does, in another lane. Writes docs/results/products/.
"""

import argparse
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from muxjax.bench.stopwatch import quantile
from muxjax.device.lanes.clients import open_lanes
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.model_spec import ModelSpec
from muxjax.models import decoder, weights
from muxjax.models.attention import Scoring
from muxjax.models.layers import Products
from muxjax.models.sharding import SAME, Devices
from muxjax.pallas.kernels import best_product, shares
from muxjax.specs import published
from scripts import results
from scripts.ceilings import seconds

QUESTION = "products"
SECTIONS = ("products", "beside")
MODELS = ("llama-3.1-8b", "llama-3.2-3b", "llama-3.2-1b")
KINDS = ("qkv", "o", "gate_up", "down")
TINY = ModelSpec(vocab=64, width=64, layers=2, heads=2, kv_heads=1, head_dim=32, ffn=128, max_len=64, windows=(None,) * 2)
CUBLAS: dict[str, Any] = {"xla_gpu_enable_triton_gemm": False}
LAYERS, PREFILL_TOKENS, DECODE_ROWS = 8, 2048, 32
"""Of the prefill beside a decode; the decode has all layers."""
LEAST_FLOPS = 3e11
"""Of a program, so that the host's work for it does not count; but it has at most MOST_CALLS products."""
LEAST_CALLS, MOST_CALLS = 8, 32
WARM_UP_S = 0.2

Share = int | None
"""Multiprocessors; None is cuBLASLt on all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Products of one shape, [tokens, depth] by [depth, columns]."""

    model: str
    kind: str
    tokens: int
    depth: int
    columns: int

    @property
    def flops(self) -> float:
        return 2.0 * self.tokens * self.depth * self.columns

    @property
    def calls(self) -> int:
        """Products of a program."""
        return int(min(max(LEAST_FLOPS // self.flops, LEAST_CALLS), MOST_CALLS))

    def operands(self) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
        shapes = (self.calls, self.tokens, self.depth), (self.calls, self.depth, self.columns)
        return jax.ShapeDtypeStruct(shapes[0], jnp.bfloat16), jax.ShapeDtypeStruct(shapes[1], jnp.bfloat16)


class Programs(NamedTuple):
    """Compiled programs of a case: its operands, its products by share, and the worst error of one of them."""

    draw: Future
    products: dict[Share, Future]
    error: Future


def cases(models: Iterable[str], tokens: Iterable[int], *, tiny: bool) -> list[Case]:
    """The largest first, whose programs take longest to compile."""
    specs = {name: TINY if tiny else published.BY_NAME[name] for name in models}
    shapes = {(name, kind): leaf.shape for name, spec in specs.items() for kind, leaf in decoder.param_shapes(spec)["layers"].items()}
    found = [
        Case(model=name, kind=kind, tokens=count, depth=shapes[name, kind][1], columns=shapes[name, kind][2])
        for name in specs
        for count in tokens
        for kind in KINDS
    ]
    return sorted(found, key=lambda case: -case.tokens)


def product_of(share: Share) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return best_product(device_kind=jax.devices()[0].device_kind, dtype=jnp.dtype(jnp.bfloat16), ctas=share)


def shares_of(device: jax.Device) -> tuple[int, ...]:
    own = shares(device_kind=device.device_kind, dtype=jnp.dtype(jnp.bfloat16), multiprocessors=getattr(device, "core_count", None))
    return own or (1,)  # of a CPU, which computes them all alike


def compiled(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    return lowered.compile(compiler_options=CUBLAS if jax.default_backend() == "gpu" else None)


def lower(case: Case, share: Share) -> jax.stages.Lowered:
    """Products that each read a slice of the stacked operands, as a step's layers do."""
    product = product_of(share)

    def products(x_CTI: jax.Array, w_CIO: jax.Array) -> list[jax.Array]:
        return [product(x_CTI[call], w_CIO[call]) for call in range(case.calls)]

    return jax.jit(products).lower(*case.operands())


def draw(case: Case, key: jax.Array) -> list[jax.Array]:
    """Random operands, of results that are about as large."""
    limit = case.depth**-0.25
    return [
        jax.random.uniform(jax.random.fold_in(key, i), shape.shape, shape.dtype, -limit, limit) for i, shape in enumerate(case.operands())
    ]


def worst_error(x_CTI: jax.Array, w_CIO: jax.Array, y_TO: jax.Array, call: jax.Array) -> jax.Array:
    """Of a row, relative, against the product of the same operands in float32."""
    right_TO = jnp.matmul(x_CTI[call].astype(jnp.float32), w_CIO[call].astype(jnp.float32), precision="highest")
    return (jnp.linalg.norm(y_TO - right_TO, axis=1) / jnp.linalg.norm(right_TO, axis=1)).max()


def start_compiling(case: Case, own_shares: Iterable[Share], pool: ThreadPoolExecutor) -> Programs:
    """They are traced here, one after the other, and compiled side by side."""
    y_TO = jax.ShapeDtypeStruct((case.tokens, case.columns), jnp.bfloat16)
    key = jax.random.key(0, impl="rbg")
    return Programs(
        draw=pool.submit(compiled, jax.jit(partial(draw, case)).lower(key)),
        products={share: pool.submit(compiled, lower(case, share)) for share in own_shares},
        error=pool.submit(compiled, jax.jit(worst_error).lower(*case.operands(), y_TO, jnp.int32(0))),
    )


def measure_case(case: Case, programs: Programs) -> dict[str, Any]:
    """A row of the table: seconds and error of one product, by share."""
    x_CTI, w_CIO = programs.draw.result()(jax.random.key(0, impl="rbg"))
    row = {"model": case.model, "kind": case.kind, "tokens": case.tokens, "depth": case.depth, "columns": case.columns}
    for share, future in programs.products.items():
        program = future.result()
        made = program(x_CTI, w_CIO)
        errors = [programs.error.result()(x_CTI, w_CIO, made[call], jnp.int32(call)) for call in (0, case.calls - 1)]
        del made

        def launch(calls: int, program=program) -> Any:
            return [program(x_CTI, w_CIO)[-1] for _ in range(calls)][-1]

        own = {"product_s": seconds(launch, calls=6) / case.calls, "error": max(map(float, errors))}
        row |= {f"{key} {named(share)}": value for key, value in own.items()}
    return row


def named(share: Share) -> str:
    return "cuBLAS" if share is None else str(share)


def measure_products(args: argparse.Namespace, own_shares: list[Share]) -> dict[str, Any]:
    """Rows of all cases, and the seconds that the first case's kernels take to compile, one at a time."""
    found = cases(args.models, args.tokens, tiny=args.tiny)
    compile_s = {}
    for share in own_shares[:2]:
        began_s = time.perf_counter()
        compiled(lower(replace(found[0], tokens=found[0].tokens - 8), share))  # of a shape that nothing else has
        compile_s[named(share)] = time.perf_counter() - began_s
    print("compiled alone:", compile_s, flush=True)
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 2)) as pool:
        began_s = time.perf_counter()
        programs = [start_compiling(case, own_shares, pool) for case in found]
        print(f"traced after {time.perf_counter() - began_s:.1f} s", flush=True)
    print(f"compiled after {time.perf_counter() - began_s:.1f} s", flush=True)  # all of them, for cuBLAS is tuned on the device
    rows = []
    for case in found:
        rows.append(measure_case(case, programs.pop(0)))
        print(rows[-1], flush=True)
    return {"rows": rows, "compile_s": compile_s}


class NoMemory(NamedTuple):
    """Attention that costs next to nothing, of all that its projections make."""

    @property
    def present_T(self) -> bool:
        return True

    def attend(
        self,
        layer: jax.Array,
        scoring: Scoring,
        q_THD: jax.Array,
        k_TKD: jax.Array,
        v_TKD: jax.Array,
        sink_H: jax.Array | None = None,
    ) -> tuple[jax.Array, "NoMemory"]:
        return q_THD + jnp.repeat(k_TKD + v_TKD, q_THD.shape[1] // k_TKD.shape[1], axis=1), self


def layers_program(spec: ModelSpec, tokens: int, share: Share, devices: Devices) -> jax.stages.Compiled:
    """Of parameters and tokens: the layers' products, and as many tokens, made of what comes out."""

    def run(params: decoder.Params, tokens_T: jax.Array) -> jax.Array:
        hidden_TM, _ = decoder.forward(spec, params, tokens_T, jnp.arange(tokens), NoMemory(), products=Products(product_of(share)))
        return (jnp.abs(hidden_TM[:, 0]) * 1000).astype(jnp.int32) % spec.vocab

    here = devices.sharding(SAME)
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), decoder.param_shapes(spec))
    return compiled(jax.jit(run).lower(params, jax.ShapeDtypeStruct((tokens,), jnp.int32, sharding=here)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A program that goes round and round on its own result."""

    program: jax.stages.Compiled
    params: decoder.Params
    tokens: jax.Array

    def run(self, stop: threading.Event, ends_s: list[float]) -> None:
        """Notes when each round ended; one is always queued behind the one that runs."""
        tokens, before = self.tokens, None
        while not stop.is_set():
            tokens = self.program(self.params, tokens)
            if before is not None:
                before.block_until_ready()
                ends_s.append(time.perf_counter())
            before = tokens
        jax.block_until_ready(tokens)


def rounds(streams: dict[str, Stream], window_s: float) -> dict[str, list[float]]:
    """Seconds of each stream's rounds, all of them going at once."""
    stop, ends = threading.Event(), {name: [] for name in streams}
    threads = [threading.Thread(target=stream.run, args=(stop, ends[name])) for name, stream in streams.items()]
    for thread in threads:
        thread.start()
    time.sleep(WARM_UP_S)
    began_s = time.perf_counter()
    time.sleep(window_s)
    stopped_s = time.perf_counter()
    stop.set()
    for thread in threads:
        thread.join()
    return {name: [after - end for end, after in pairwise(each) if began_s <= end and after <= stopped_s] for name, each in ends.items()}


def measure_beside(args: argparse.Namespace, own_shares: list[Share]) -> list[dict[str, Any]]:
    """A row a share of the prefill: its rounds and those of the decode, alone and beside each other."""
    spec = TINY if args.tiny else published.BY_NAME[args.models[0]]
    short = replace(spec, layers=min(LAYERS, spec.layers), windows=spec.windows[:LAYERS])
    tokens = max(args.tokens)
    models = tuple(ModelOptions(name=name, path=Path(name)) for name in ("prefill", "decode"))
    lanes = open_lanes(UnitOptions(models=models, lanes=2, gpu_memory_fraction=0.45))
    if len(lanes) < 2:
        raise SystemExit("there is no second lane to run beside")
    own, other = lanes
    decode = Stream(
        program=layers_program(spec, DECODE_ROWS, None, other),
        params=weights.dummy(spec, other),
        tokens=other.zeros((DECODE_ROWS,), jnp.int32),
    )
    params, rows = weights.dummy(short, own), []
    decode_alone_s = statistics.mean(rounds({"decode": decode}, args.window)["decode"])
    for share in own_shares:
        prefill = Stream(program=layers_program(short, tokens, share, own), params=params, tokens=own.zeros((tokens,), jnp.int32))
        alone = rounds({"prefill": prefill}, args.window / 2)["prefill"]
        both = rounds({"prefill": prefill, "decode": decode}, args.window)
        row = {"share": named(share), "prefill_alone_s": statistics.mean(alone), "prefill_s": statistics.mean(both["prefill"])}
        row |= {"decode_alone_s": decode_alone_s, "decode_s": statistics.mean(both["decode"])}
        rows.append(row | {f"decode_p{percent}_s": quantile(both["decode"], percent) for percent in (50, 99)})
        print(rows[-1], flush=True)
    return rows


def page(runs: Iterable[dict[str, Any]]) -> str:
    """README.md of all runs; they are of one device."""
    parts = ["# How fast is our matrix product within a share of the multiprocessors, and what does it leave to a neighbour?"]
    parts.append(
        "bf16, LLaMA's matrices, random operands. A share is how many multiprocessors the kernel of `muxjax/pallas/product.py` may use; "
        "cuBLAS is cuBLASLt through XLA, on all. Command: `python -m scripts.bench_products`."
    )
    for run in runs:
        values, config = run["values"], run["config"]
        parts.append(f"## {config['section']}\n\n{run['device']}, JAX {run['versions']['jax']}, commit {run['commit']}.")
        parts.append(products_table(values) if config["section"] == "products" else beside_table(values["rows"]))
    return "\n\n".join(parts)


def products_table(values: dict[str, Any]) -> str:
    rows = values["rows"]
    own = [key.partition(" ")[2] for key in rows[0] if key.startswith("product_s ")]

    def rate(row: dict[str, Any], share: str) -> str:
        return f"{2 * row['tokens'] * row['depth'] * row['columns'] / row[f'product_s {share}'] / 1e12:.0f}"

    lines = [
        [row["model"], row["tokens"], f"{row['kind']} {row['depth']} x {row['columns']}", *(rate(row, share) for share in own)]
        for row in rows
    ]
    worst = ", ".join(f"{share} {max(row[f'error {share}'] for row in rows):.1e}" for share in own)
    alone = ", ".join(f"{share} {spent:.1f} s" for share, spent in values["compile_s"].items())
    return f"""TFLOP/s by share:

{results.table(["model", "tokens", "matrix", *own], lines)}

Largest error of a row against float32, relative: {worst}. A program of the first row's kind alone compiles in: {alone}."""


def beside_table(rows: list[dict[str, Any]]) -> str:
    cublas_s = rows[0]["prefill_alone_s"]
    lines = []
    for row in rows:
        prefill, decode = cublas_s / row["prefill_s"], row["decode_alone_s"] / row["decode_s"]
        shown = (cublas_s / row["prefill_alone_s"], prefill, decode, prefill + decode)
        times = (f"{row[f'decode_p{percent}_s'] * 1e3:.1f}" for percent in (50, 99))
        lines.append([row["share"], *(f"{value:.2f}" for value in shown), " / ".join(times)])
    head = ["prefill", "alone, of cuBLAS", "beside, of cuBLAS alone", "decode, of alone", "sum", "decode step p50 / p99, ms"]
    return f"""Rates as shares of what each has alone; a decode step alone takes {rows[0]["decode_alone_s"] * 1e3:.1f} ms:

{results.table(head, lines)}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="the first one is beside a decode of its own")
    parser.add_argument("--tokens", nargs="+", type=int, default=[512, PREFILL_TOKENS])
    parser.add_argument("--window", type=float, default=1.2, help="seconds that streams are watched beside each other")
    parser.add_argument("--tiny", action="store_true", help="small numbers, written nowhere")
    args = parser.parse_args()
    if args.tiny:
        args.models, args.tokens, args.window = args.models[:1], [16], 0.2
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # or the second lane would find no memory
    device = jax.devices()[0]
    own_shares: list[Share] = [None, *reversed(shares_of(device))][: 2 if args.tiny else None]
    for section in args.only:
        values = measure_products(args, own_shares) if section == "products" else {"rows": measure_beside(args, own_shares)}
        record = results.run_record(device=device.device_kind, config=vars(args) | {"section": section}, seed=0, values=values)
        if args.tiny:
            print(page([record]))
        else:
            results.write_runs(QUESTION, section, [record])
            results.write_readme(QUESTION, page(results.read_runs(QUESTION)))
    if not args.tiny:
        print(page(results.read_runs(QUESTION)))


if __name__ == "__main__":
    main()
