"""A second start compiles nothing: programs come from the folder that the first one filled."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from muxjax.specs.config import to_hf_config
from tests.device.test_step import SPEC

ROOT = Path(__file__).parents[2]
START = """
import sys
from collections import Counter
from pathlib import Path
from jax import monitoring
from muxjax.launch.worker import start_worker
from muxjax.engine.options import ModelOptions, UnitOptions

seen = Counter()
monitoring.register_event_listener(lambda event, **_: seen.update([event.rpartition("/")[2]]))
model = ModelOptions(name="m", path=Path(sys.argv[1]), load_format="dummy", dtype="float32", max_num_seqs=8)
options = UnitOptions(models=(model,), block_bytes=512, kv_cache_bytes=2**17, max_num_batched_tokens=64, compilation_cache_dir=sys.argv[2])
worker = start_worker(options, progress=False)
print(len(list(Path(sys.argv[2] or sys.argv[1]).glob("*-cache"))), seen["cache_hits"], seen["cache_misses"])
print(list(worker.memory.lines())[-1])
"""


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(to_hf_config(replace(SPEC, windows=(None, None)))))
    return folder


def start(model: Path, cache: Path | str) -> tuple[int, int, int, str]:
    """Programs kept, cache hits and misses of a fresh process that builds an engine, and the last line of its report."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION_CACHE")}
    arguments = [sys.executable, "-c", START, str(model), str(cache)]
    ran = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    counts, line = ran.stdout.splitlines()[-2:]
    kept, hits, misses = map(int, counts.split())
    return kept, hits, misses, line


def test_a_second_start_compiles_nothing_and_plans_the_same_memory(model, tmp_path):
    kept, _, misses, line = start(model, tmp_path / "cache")
    again, hits, missed, same = start(model, tmp_path / "cache")

    assert kept == misses > 5
    assert (again, missed) == (kept, 0)
    assert hits >= kept
    assert line == same and line.startswith("memory: m ")


def test_an_empty_folder_name_keeps_nothing(model):
    assert start(model, "")[:3] == (0, 0, 0)
