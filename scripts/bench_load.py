"""How much host memory does loading a checkpoint of 1 GB take, beyond the arrays themselves?

    python -m scripts.bench_load

Writes random weights, loads them in a fresh process, and samples its anonymous memory (RssAnon of /proc/self/status: pages of the
files, which the system may drop, do not count) every 2 ms. On CPU the arrays are host memory too, and are subtracted.
Writes docs/results/load-memory/.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import ml_dtypes
import numpy as np

from muxjax.models.hf_weights import kinds
from muxjax.models.safetensors_io import write_shards
from muxjax.models.weights import load
from muxjax.specs.config import read_spec, to_hf_config
from muxjax.types import ModelSpec
from muxjax.units import show_bytes, show_s
from scripts import results

QUESTION = "load-memory"
GOAL_BYTES = 1.3e9
SPEC = ModelSpec(
    vocab=32000, width=1536, layers=14, heads=12, kv_heads=4, head_dim=128, ffn=6144, max_len=2048, windows=(None,) * 14, dtype="bfloat16"
)
CASES = {"one file": 2**62, "5 shards": 2**28}
"""Bytes of a shard."""


def write_checkpoint(folder: Path, shard_bytes: int, seed: int) -> None:
    (folder / "config.json").write_text(json.dumps(to_hf_config(SPEC)))
    write_shards(folder, random_tensors(seed), shard_bytes=shard_bytes)


def random_tensors(seed: int) -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    for kind in kinds(SPEC).values():
        for name, shape in kind.tensor_shapes.items():
            yield name, rng.standard_normal(shape, np.float32).astype(ml_dtypes.bfloat16)


def measure(folder: Path) -> dict[str, float]:
    """Loads in this process: its anonymous memory before, at the peak and after, and the size of the arrays."""
    jax.block_until_ready(jax.numpy.zeros(1))
    before = peak = anonymous_bytes()
    done = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, anonymous_bytes())

    sampler = threading.Thread(target=sample)
    sampler.start()
    start_s = time.perf_counter()
    params = load(folder, read_spec(folder), progress=False)
    load_s = time.perf_counter() - start_s
    done.set()
    sampler.join()
    arrays = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    return {
        "arrays_bytes": arrays,
        "before_bytes": before,
        "peak_bytes": peak,
        "after_bytes": anonymous_bytes(),
        "above_arrays_bytes": peak - arrays * (jax.default_backend() == "cpu"),
        "load_s": load_s,
    }


def anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


def measured(case: str, seed: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), CASES[case], seed)
        answer = subprocess.run([sys.executable, __file__, "--measure", folder], check=True, stdout=subprocess.PIPE, text=True)
    config = {"case": case, "dtype": SPEC.dtype, "parameters": SPEC.params, "sample_s": 0.002}
    return results.run_record(device=jax.devices()[0].device_kind, config=config, seed=seed, values=json.loads(answer.stdout))


def readme(records: list[dict]) -> str:
    rows = [
        [record["config"]["case"]]
        + [show_bytes(record["values"][f"{name}_bytes"]) for name in ("arrays", "before", "peak", "after", "above_arrays")]
        + [show_s(record["values"]["load_s"])]
        for record in records
    ]
    head = ["checkpoint", "arrays", "before loading", "peak", "after", "peak above the arrays", "time"]
    worst = max(record["values"]["above_arrays_bytes"] for record in records)
    verdict = "met" if worst <= GOAL_BYTES else "missed"
    stack = max(math.prod(kind.shape) for kind in kinds(SPEC).values()) * ml_dtypes.finfo(SPEC.dtype).bits // 8
    return f"""# Host memory of loading a checkpoint

**Question.** {(__doc__ or "").splitlines()[0]}

**Command.** `python -m scripts.bench_load`

**Answer.** At most {show_bytes(worst)} above the arrays, Python and JAX included; the goal of {show_bytes(GOAL_BYTES)} is {verdict}.
The part that grows with the model is one stacked kind of weights, here {show_bytes(stack)} at most: it is built
on the host and handed to the device before the next is begun. Device: {records[0]["device"]}, {results.host()}.

{results.table(head, rows)}

Memory is RssAnon of a fresh process, sampled every 2 ms: what the process itself has allocated, without the pages of the mapped files.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", type=Path, help="load this folder here, and print what it took")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    records = [measured(case, arguments.seed) for case in CASES]
    print(results.write_runs(QUESTION, "load", records))
    results.write_readme(QUESTION, readme(records))


if __name__ == "__main__":
    main()
