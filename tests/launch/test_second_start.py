"""A second start compiles nothing: programs come from the folder that the first one filled; and a first one need not have them all."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from muxjax.specs.config import to_hf_config
from tests.device.test_step import SPEC

ROOT = Path(__file__).parents[2]
START = """
import sys
from pathlib import Path
from muxjax.device.programs.compiler import Compiler
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.progress import Progress
from muxjax.launch.worker import start_worker

compiled, compile_it = [], Compiler.compile
def counted(self, source):
    compiled.append(source)
    return compile_it(self, source)
Compiler.compile = counted
model = ModelOptions(name="m", path=Path(sys.argv[1]), load_format="dummy", dtype="float32", max_num_seqs=8)
options = UnitOptions(
    models=(model,), block_bytes=512, kv_cache_bytes=2**17, max_num_batched_tokens=64, compilation_cache_dir=sys.argv[2],
    wait_for_all=sys.argv[3] == "all",
)
worker = start_worker(options, Progress(bars=False))
print(len(list(Path(sys.argv[2] or sys.argv[1]).rglob("*.program"))), len(compiled), *worker.control.progress()["m"][:2])
print(list(worker.memory.lines())[-1])
"""


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(to_hf_config(replace(SPEC, windows=(None, None)))))
    return folder


class Start(NamedTuple):
    """What a fresh process found that makes a worker: programs in the folder, compiled by it, shapes ready and in all, its last line."""

    kept: int
    compiled: int
    ready: int
    all: int
    line: str


def begun(model: Path, folder: Path | str, wait_for: str = "first") -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION_CACHE")}
    arguments = [sys.executable, "-c", START, str(model), str(folder), wait_for]
    return subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> Start:
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    counts, line = output.splitlines()[-2:]
    return Start(*map(int, counts.split()), line)


def start(model: Path, folder: Path | str, wait_for: str = "first") -> Start:
    return ended(begun(model, folder, wait_for))


def test_a_second_start_compiles_nothing_and_plans_the_same_memory(model, tmp_path):
    first = start(model, tmp_path / "programs", "all")
    second = start(model, tmp_path / "programs", "all")

    assert first.kept == first.compiled > 5 and first.ready == first.all
    assert second == first._replace(compiled=0)
    assert first.line.startswith("memory: m ")


def test_a_start_is_ready_with_the_shape_that_holds_every_step_of_a_toy(model, tmp_path):
    first = start(model, tmp_path / "programs")

    whole = start(model, tmp_path / "programs", "all")

    assert first.ready == 1 < first.all and first.kept == first.compiled
    assert whole.ready == whole.all and 0 < whole.compiled == whole.kept - first.kept


def test_a_folder_that_cannot_be_written_to_delays_a_start_and_no_more(model, tmp_path):
    (tmp_path / "file").write_text("in the way")

    assert start(model, tmp_path / "file").ready == 1


def test_two_servers_at_once_fill_one_folder_that_serves_a_third(model, tmp_path):
    both = [begun(model, tmp_path / "programs") for _ in range(2)]
    first, second = map(ended, both)
    third = start(model, tmp_path / "programs")

    assert first.ready == second.ready == third.ready == 1
    assert third.compiled == 0 and third.kept == max(first.kept, second.kept)
    assert not list((tmp_path / "programs").rglob("*.part"))


def test_a_kill_in_the_middle_of_a_start_leaves_a_folder_that_the_next_one_uses(model, tmp_path):
    killed = begun(model, tmp_path / "programs")
    while killed.poll() is None and not list((tmp_path / "programs").rglob("*.program")):
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    found = len(list((tmp_path / "programs").rglob("*.program")))
    after = start(model, tmp_path / "programs")

    assert found and after.ready == 1
    assert after.compiled == after.kept - found
