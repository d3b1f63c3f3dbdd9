"""How near the hardware's ceilings are the kernels over the head-wise cache, and how right?

    python -m scripts.bench_kernels --only decode prefill write     # on a GPU
    python -m scripts.bench_kernels --tune                          # tries tunings: docs/results/kernel-tuning/
    python -m scripts.bench_kernels --tiny                          # anywhere: whether it runs

Several calls in one program, each fed by the one before and with a table of its own over an arena many times the size of the L2 cache.
Errors are relative, per row and head, against `pallas/reference.py` in float32. Writes docs/results/kernel-speed/.
"""

import argparse
import functools
import importlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.cache.layout import BLOCK_BYTES
from muxjax.pallas import reference
from muxjax.pallas.reference import Places
from scripts import results
from scripts.ceilings import Ceilings, measure, seconds
from scripts.speed_page import KERNEL_QUESTION, TUNING_QUESTION, kernel_page, tuning_page

KERNELS = ("decode", "prefill", "write")
SETS = {"decode": 48, "prefill": 8, "write": 48}
"""Calls of one program, each with a table of its own."""
TUNINGS: dict[str, dict[int, tuple[dict[str, Any], ...]]] = {
    "decode": {
        64: ({"tile_tokens": 128, "stages": 4}, {"tile_tokens": 128, "stages": 6}, {"tile_tokens": 256, "stages": 2}),
        128: (
            {"tile_tokens": 128, "stages": 2},
            {"tile_tokens": 128, "stages": 2, "piece_cost": 1},
            {"tile_tokens": 128, "stages": 2, "piece_cost": 4},
            {"tile_tokens": 64, "stages": 4},
            {"tile_tokens": 64, "stages": 5},
        ),
        256: ({"tile_tokens": 64, "stages": 2, "queries": 1}, {"tile_tokens": 64, "stages": 1, "queries": 1}),
    },
    "prefill": {
        64: (
            {"tile_tokens": 128, "stages": 4},
            {"tile_tokens": 128, "stages": 4, "weights_in_registers": True},
            {"tile_tokens": 64, "stages": 4, "weights_in_registers": True},
        ),
        128: (
            {"tile_tokens": 128, "stages": 2, "weights_in_registers": True},
            {"tile_tokens": 128, "stages": 2},
            {"tile_tokens": 64, "stages": 4, "weights_in_registers": True},
        ),
        256: ({"tile_tokens": 64, "stages": 2}, {"tile_tokens": 64, "stages": 2, "weights_in_registers": True}),
    },
}
"""What is tried, by kernel and head size: all that fits into shared memory and was not clearly worse before. A write has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Rows of a kernel call: [B] tokens cached before it, and new ones."""

    name: str
    kernel: str
    cached: tuple[int, ...]
    new: tuple[int, ...]

    @property
    def lengths(self) -> np.ndarray:
        return np.add(self.cached, self.new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """K kv heads of size D, G query heads each."""

    head_dim: int
    group: int
    kv_heads: int

    @property
    def tokens_per_block(self) -> int:
        return BLOCK_BYTES // (4 * self.head_dim)

    def flops(self, case: Case) -> float:
        """Of the query-key pairs that are seen."""
        pairs = sum(new * cached + new * (new + 1) / 2 for cached, new in zip(case.cached, case.new, strict=True))
        return 4.0 * pairs * self.kv_heads * self.group * self.head_dim

    def bytes(self, case: Case) -> float:
        """Decode reads the context's K and V once; a write reads the new ones and writes them."""
        tokens = case.lengths.sum() if case.kernel == "decode" else 2 * sum(case.new)
        return float(tokens * self.kv_heads * self.head_dim * 4)


def cases(kernel: str, *, tiny: bool) -> list[Case]:
    """What is measured of a kernel; names as in `speed_page.KERNEL_GOALS`."""
    if kernel == "decode":
        mixed = np.random.default_rng(0).integers(16, 257 if tiny else 4097, 8 if tiny else 256)
        even = ((4, 64), (1, 300)) if tiny else ((64, 2048), (32, 1024), (128, 512), (1, 1024), (1, 8192))
        lengths = {f"{rows} x {context}": [context] * rows for rows, context in even} | {f"{len(mixed)} mixed": mixed.tolist()}
        return [Case(name=name, kernel=kernel, cached=tuple(n - 1 for n in each), new=(1,) * len(each)) for name, each in lengths.items()]
    tokens = 96 if tiny else 4096
    if kernel == "prefill":
        return [Case(name=f"{tokens} on {cached}", kernel=kernel, cached=(cached,), new=(tokens,)) for cached in (0, tokens)]
    rows = {"1 row": ((0,), (tokens // 2,)), "64 rows of 1": (tuple(range(100, 164)), (1,) * 64)}
    return [Case(name=name, kernel=kernel, cached=cached, new=new) for name, (cached, new) in rows.items()]


Arrays = dict[str, jax.Array]


def inputs(case: Case, heads: Heads, sets: int, *, arena_bytes: int) -> Arrays:
    """Random arrays of a case, among them a table for each call of a program. They are arguments of every program, not part of it."""
    rng = np.random.default_rng(1)
    columns = -(-int(case.lengths.max()) // heads.tokens_per_block)
    rows, size, tokens = len(case.new), len(case.new) * heads.kv_heads * columns, sum(case.new)
    blocks = max(size, arena_bytes // BLOCK_BYTES)
    tables = [rng.permutation(blocks)[:size].reshape(rows, heads.kv_heads, columns) for _ in range(sets)]
    positions = [cached + np.arange(new) for cached, new in zip(case.cached, case.new, strict=True)]
    integers = {
        "tables": np.stack(tables),
        "offset": np.cumsum(case.new) - case.new,
        "count": case.new,
        "length": case.lengths,
        "row": np.repeat(np.arange(rows), case.new),
        "position": np.concatenate(positions),
    }
    shapes = {
        "pool": (blocks, 2, heads.tokens_per_block, heads.head_dim),
        "q": (tokens, heads.kv_heads * heads.group, heads.head_dim),
        "k": (tokens, heads.kv_heads, heads.head_dim),
        "v": (tokens, heads.kv_heads, heads.head_dim),
    }
    key = jax.random.key(0, impl="rbg")
    drawn = {name: jax.random.normal(jax.random.fold_in(key, i), shape, jnp.bfloat16) for i, (name, shape) in enumerate(shapes.items())}
    return drawn | {name: jnp.asarray(each, jnp.int32) for name, each in integers.items()}


def call(kernel: str, function: Callable, state: jax.Array, arrays: Arrays, layer: int) -> jax.Array:
    """One call; what it returns is the next one's `state`: queries of an attention, the pool of a write."""
    slots = arrays["row"] if kernel == "write" else jnp.arange(len(arrays["count"]))
    places = Places(arrays["tables"], jnp.int32(layer), slots)
    if kernel == "decode":
        return function(state, arrays["pool"], places, arrays["length"])
    if kernel == "prefill":
        return function(state, arrays["pool"], places, arrays["offset"], arrays["count"], arrays["length"])
    return function(state, arrays["k"], arrays["v"], places, arrays["position"])


def implementation(kernel: str, name: str) -> tuple[Callable, Any]:
    """The function of that name and its class of tunings, None of a kernel that has nothing to tune."""
    if name == "reference":
        return getattr(reference, kernel), None
    module = importlib.import_module(f"muxjax.pallas.{kernel}")
    return getattr(module, kernel), getattr(module, f"{kernel.capitalize()}Tuning", None)


def time_case(function: Callable, kernel: str, arrays: Arrays) -> float:
    """Seconds of one call."""
    count = len(arrays["tables"])

    @functools.partial(jax.jit, donate_argnums=0)
    def chain(state: jax.Array, arrays: Arrays) -> jax.Array:
        for i in range(count):
            state = call(kernel, function, state, arrays, i)
        return state

    state = [jnp.copy(_state(kernel, arrays))]

    def launch(calls: int) -> jax.Array:
        for _ in range(calls):
            state[0] = chain(state[0], arrays)
        return state[0]

    return seconds(launch, calls=4) / count


def worst_error(function: Callable, kernel: str, arrays: Arrays) -> float:
    """Relative, of the worst row and head; of a write, the share of elements that differ."""
    state, twin = _state(kernel, arrays), getattr(reference, kernel)
    found = jax.jit(lambda state, arrays: call(kernel, function, state, arrays, 0))(state, arrays)
    wide = state if kernel == "write" else state.astype(jnp.float32)
    with jax.default_matmul_precision("highest"):
        right = jax.jit(lambda state, arrays: call(kernel, twin, state, arrays, 0))(wide, arrays)
    if kernel == "write":
        return float((found != right).mean())
    error = jnp.linalg.norm(found.astype(jnp.float32) - right, axis=-1) / jnp.linalg.norm(right, axis=-1)
    return float(error.max())


def _state(kernel: str, arrays: Arrays) -> jax.Array:
    return arrays["pool"] if kernel == "write" else arrays["q"]


def measure_case(name: str, function: Callable, case: Case, heads: Heads, ceilings: Ceilings, *, tiny: bool) -> dict:
    """A row of the table."""
    arrays = inputs(case, heads, 2 if tiny else SETS[case.kernel], arena_bytes=2**20 if tiny else 2**31)
    call_s = time_case(function, case.kernel, arrays)
    if case.kernel == "prefill":
        share = heads.flops(case) / call_s / ceilings.flops_per_s
    else:
        share = heads.bytes(case) / call_s / ceilings.bytes_per_s
    values = {"kernel": case.kernel, "implementation": name, "case": case.name, "head_dim": heads.head_dim, "group": heads.group}
    return values | {"kv_heads": heads.kv_heads, "call_s": call_s, "share": share, "error": worst_error(function, case.kernel, arrays)}


def run(args: argparse.Namespace) -> list[dict]:
    """Rows of all that was asked for; a tuning that does not compile is told and left out."""
    ceilings, rows = measure(tiny=args.tiny), []
    print(f"{jax.devices()[0].device_kind}: {ceilings}", flush=True)
    for kernel, name, head_dim in itertools.product(args.only, args.implementations, args.head_dims):
        function, cls = implementation(kernel, name)
        heads = Heads(head_dim=head_dim, group=args.group, kv_heads=args.kv_heads)
        for tuning in TUNINGS.get(kernel, {}).get(head_dim, ()) if args.tune else [None]:
            chosen = jax.jit(functools.partial(function, tuning=cls(**tuning)) if tuning else function)  # traced once for all calls
            for case in cases(kernel, tiny=args.tiny):
                if args.cases and case.name not in args.cases:
                    continue
                try:
                    row = measure_case(name, chosen, case, heads, ceilings, tiny=args.tiny)
                except Exception as error:
                    if not tuning:
                        raise
                    print(f"{kernel} {tuning}: {str(error).splitlines()[0][:120]}", flush=True)
                    break
                rows.append(row | {"tuning": tuning})
                print(rows[-1], flush=True)
        write(args, ceilings, kernel, head_dim, rows)
    return rows


def write(args: argparse.Namespace, ceilings: Ceilings, kernel: str, head_dim: int, rows: list[dict]) -> None:
    """A file a kernel and head size, as soon as it is measured: a run of one leaves the others' figures."""
    measurements = [row for row in rows if (row["kernel"], row["head_dim"]) == (kernel, head_dim)]
    if args.tiny or not measurements:
        return
    question, page = (TUNING_QUESTION, tuning_page) if args.tune else (KERNEL_QUESTION, kernel_page)
    rates = {"flops_per_s": ceilings.flops_per_s, "bytes_per_s": ceilings.bytes_per_s}
    config = vars(args) | {"only": kernel, "head_dims": head_dim}
    record = results.run_record(device=jax.devices()[0].device_kind, config=config, seed=0, values=rates | {"rows": measurements})
    results.write_runs(question, f"{kernel}-{head_dim}", [record])
    results.write_readme(question, page(results.read_runs(question)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=KERNELS, default=list(KERNELS))
    parser.add_argument("--implementations", nargs="+", choices=("reference", "mosaic"))
    parser.add_argument("--head-dims", nargs="+", type=int, default=[128])
    parser.add_argument("--cases", nargs="+", help="these alone")
    parser.add_argument("--group", type=int, default=4)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--tune", action="store_true", help="try the tunings of the kernels")
    parser.add_argument("--tiny", action="store_true", help="small numbers, written nowhere")
    parser.add_argument("--page", action="store_true", help="measure nothing, rewrite the READMEs")
    args = parser.parse_args()
    args.implementations = args.implementations or (["reference"] if args.tiny else ["mosaic"])
    if not args.page:
        rows = run(args)
        rows.sort(key=lambda row: (row["kernel"], row["case"], -row["share"]))
        print(kernel_page([{"values": {"rows": rows}}]))
    elif not args.tiny:
        for question, page in ((KERNEL_QUESTION, kernel_page), (TUNING_QUESTION, tuning_page)):
            if runs := results.read_runs(question):
                results.write_readme(question, page(runs))


if __name__ == "__main__":
    main()
