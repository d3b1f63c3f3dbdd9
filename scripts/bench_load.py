"""How much host memory does loading a checkpoint of 1 GB take, beyond the arrays themselves?

    python -m scripts.bench_load

Writes random weights, converts them to Orbax, and loads both onto one, two and four devices, each in a fresh process whose anonymous
memory is sampled every 2 ms (RssAnon of /proc/self/status: pages of the files, which the system may drop, do not count). On CPU the
arrays are host memory too, and are subtracted. Writes docs/results/load-memory/.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np

from muxjax.model_spec import ModelSpec
from muxjax.models.convert import convert
from muxjax.models.hf_weights import kinds
from muxjax.models.safetensors_io import write_shards
from muxjax.models.sharding import Devices
from muxjax.models.weights import load
from muxjax.specs.config import read_spec, to_hf_config
from muxjax.units import show_bytes, show_s
from scripts import results

QUESTION = "load-memory"
GOAL_BYTES = 1.3e9
SPEC = ModelSpec(
    vocab=32000, width=1536, layers=14, heads=12, kv_heads=4, head_dim=128, ffn=6144, max_len=2048, windows=(None,) * 14, dtype="bfloat16"
)
SHARDS = {"one file": 2**62, "5 shards": 2**28}
"""Bytes of a shard."""
ORBAX = "Orbax"
DEVICES = (1, 2, 4)


def write_checkpoint(folder: Path, shard_bytes: int, seed: int) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(to_hf_config(SPEC)))
    write_shards(folder, random_tensors(seed), shard_bytes=shard_bytes)


def random_tensors(seed: int) -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    for kind in kinds(SPEC).values():
        for name, shape in kind.tensor_shapes.items():
            yield name, rng.standard_normal(shape, np.float32).astype(ml_dtypes.bfloat16)


def load_here(folder: Path, devices: int) -> dict[str, float]:
    """Loads in this process: its anonymous memory before, at the peak and after, and the size of the arrays."""
    jax.block_until_ready(jax.numpy.zeros(1))
    held = watched(lambda: load(folder, read_spec(folder), Devices.first(devices), progress=False))
    arrays = sum(shard.data.nbytes for leaf in jax.tree.leaves(held.pop("result")) for shard in leaf.addressable_shards)
    on_host = arrays * (jax.default_backend() == "cpu")
    return held | {"arrays_bytes": arrays, "above_arrays_bytes": held["peak_bytes"] - on_host}


def convert_here(folder: Path, target: Path) -> dict[str, float]:
    """Converts in this process: the same."""
    held = watched(lambda: convert(folder, target, progress=False))
    del held["result"]
    return held | {"arrays_bytes": SPEC.params * 2, "above_arrays_bytes": held["peak_bytes"]}


def watched(action: Callable[[], Any]) -> dict[str, Any]:
    """What an action makes, the seconds it takes, and the process's anonymous memory before it, at its most and after it."""
    before = peak = anonymous_bytes()
    done = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, anonymous_bytes())

    sampler = threading.Thread(target=sample)
    sampler.start()
    start_s = time.perf_counter()
    result = action()
    took_s = time.perf_counter() - start_s
    done.set()
    sampler.join()
    return {"result": result, "before_bytes": before, "peak_bytes": peak, "after_bytes": anonymous_bytes(), "took_s": took_s}


def anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


def measured(seed: int) -> Iterator[dict]:
    """A record of each case."""
    with tempfile.TemporaryDirectory() as place:
        folders = {case: Path(place) / case.replace(" ", "-") for case in (*SHARDS, ORBAX)}
        for case, shard_bytes in SHARDS.items():
            write_checkpoint(folders[case], shard_bytes, seed)
        yield _record("to Orbax", 0, _elsewhere(0, "--convert", folders["one file"], folders[ORBAX]), seed)
        for case, folder in folders.items():
            for devices in DEVICES:
                yield _record(case, devices, _elsewhere(devices, "--load", folder), seed)


def _elsewhere(devices: int, *arguments: object) -> dict:
    """What a process of its own measures, which sees so many devices."""
    seen = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={max(1, devices)}"}
    command = [sys.executable, "-m", "scripts.bench_load", "--devices", devices, *arguments]
    answer = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True, env=seen, cwd=results.ROOT)
    return json.loads(answer.stdout)


def _record(case: str, devices: int, values: dict, seed: int) -> dict:
    config = {"case": case, "devices": devices, "dtype": SPEC.dtype, "parameters": SPEC.params, "sample_s": 0.002}
    return results.run_record(device=jax.devices()[0].device_kind, config=config, seed=seed, values=values)


def readme(records: list[dict]) -> str:
    rows = [
        [record["config"]["case"], record["config"]["devices"] or "none"]
        + [show_bytes(record["values"][f"{name}_bytes"]) for name in ("arrays", "before", "peak", "after", "above_arrays")]
        + [show_s(record["values"]["took_s"])]
        for record in records
    ]
    head = ["checkpoint", "devices", "arrays", "before", "peak", "after", "peak above the devices' arrays", "time"]
    worst = max(record["values"]["above_arrays_bytes"] for record in records)
    verdict = "met" if worst <= GOAL_BYTES else "missed"
    stack = max(math.prod(kind.shape) for kind in kinds(SPEC).values()) * ml_dtypes.finfo(SPEC.dtype).bits // 8
    return f"""# Host memory of loading a checkpoint

**Question.** {(__doc__ or "").splitlines()[0]}

**Command.** `python -m scripts.bench_load`

**Answer.** At most {show_bytes(worst)} above the arrays, Python and JAX included; the goal of {show_bytes(GOAL_BYTES)} is {verdict}.
What grows with the model is one device's part of one kind of weights, of all layers: here {show_bytes(stack)} at most on one device,
and so much less on several. It is read into the host's memory and handed to its device before the next is begun. A conversion to
Orbax holds a share of one kind at a time. Device: {records[0]["device"]}, {results.host()}.

{results.table(head, rows)}

Memory is RssAnon of a fresh process, sampled every 2 ms: what the process itself has allocated, without the pages of the mapped files.
The largest kind is not the last one that is read, so the peak may lie by less than a part above the arrays.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", type=Path, help="load this folder here, and print what it took")
    parser.add_argument("--convert", type=Path, nargs=2, help="convert this folder to that, and print what it took")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.load:
        print(json.dumps(load_here(arguments.load, arguments.devices)))
    elif arguments.convert:
        print(json.dumps(convert_here(*arguments.convert)))
    else:
        records = list(measured(arguments.seed))
        print(results.write_runs(QUESTION, "load", records))
        results.write_readme(QUESTION, readme(records))


if __name__ == "__main__":
    main()
