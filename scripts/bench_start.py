"""How long does a start take, until the first answer and until every program is there; with nothing kept, and with all of it?

    python -m scripts.bench_start                     # on a GPU: LLaMA 3's 8B alone, then 8B, 3B and 1B together
    python -m scripts.bench_start --tiny --keep-nothing

Each start is a process of its own with random weights of the real size: from its first line to a token of every model, to the last
program. The last case adds a model to an engine that serves two others, with its programs kept. Writes docs/results/start/.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muxjax.specs.dummy import write_dummy_models
from muxjax.specs.published import BY_NAME
from muxjax.types import Finish, ModelSpec, Output, Request, Sampling
from muxjax.workload.metrics import percentiles
from scripts import results

QUESTION = "start"
LARGE, MODELS = ("llama-3.1-8b",), ("llama-3.1-8b", "llama-3.2-3b", "llama-3.2-1b")
ADDED = "llama-3.2-1b"
BUSY_S, STREAMS, ANSWER_TOKENS = 5.0, 16, 200
GOALS_S = {"one model, nothing kept": (30, None), "three models, nothing kept": (60, 240), "three models, everything kept": (12, None)}
"""Seconds to the first answer, and to the last program; of the kept start beside loading weights."""

TINY = ModelSpec(
    vocab=256, width=64, layers=2, heads=4, kv_heads=2, head_dim=32, ffn=96, max_len=256, windows=(None, None), dtype="float32"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One process: the models it starts with, and the one that it is to add."""

    name: str
    models: tuple[str, ...]
    until_all: bool = True
    added: str = ""


CASES = (
    Case(name="one model, nothing kept", models=LARGE, until_all=False),
    Case(name="three models, nothing kept", models=MODELS),
    Case(name="three models, everything kept", models=MODELS),
    Case(name="adding a model, its programs kept", models=MODELS[:2], added=ADDED),
)


class Clients:
    """Greedy requests to an engine, and when their tokens came."""

    def __init__(self, engine: Any):
        self._engine, self._numbers = engine, 0
        self._events: defaultdict[str, list[Output]] = defaultdict(list)
        self._news = threading.Condition()
        engine.start(self._take)

    def ask(self, model: str, *, tokens: int) -> str:
        """Submits a request; its id."""
        self._numbers += 1
        request_id = f"{model}-{self._numbers}"
        sampling = Sampling(temperature=0, max_tokens=tokens)
        prompt = tuple(range(3, 35))
        self._engine.submit(Request(id=request_id, model=model, prompt=prompt, sampling=sampling, arrival_s=time.monotonic()))
        return request_id

    def wait_for(self, request_ids: Sequence[str]) -> None:
        """Returns when each has a token.

        Raises:
          RuntimeError: one of them has failed.
        """
        with self._news:
            self._news.wait_for(lambda: all(self._events[request_id] for request_id in request_ids))
        if any(self._events[request_id][0].finish in (Finish.FAILED, Finish.ABORT) for request_id in request_ids):
            raise RuntimeError("a request has failed")

    def _take(self, outputs: list[Output]) -> None:
        with self._news:
            for output in outputs:
                self._events[output.request_id].append(output)
            self._news.notify_all()


def child(case: Mapping[str, Any], folders: Mapping[str, str], programs: str, slots: int, began_s: float) -> dict[str, float | str]:
    """What one start took, in seconds since the process began."""
    from muxjax.engine.options import ModelOptions, UnitOptions
    from muxjax.launch.build import build

    taken: dict[str, float | str] = {"imported": time.time() - began_s}
    options = {name: ModelOptions(name=name, path=Path(folders[name]), load_format="dummy", max_num_seqs=slots) for name in folders}
    cache_bytes = None if slots > 16 else 2**24
    unit = UnitOptions(models=tuple(options[name] for name in case["models"]), compilation_cache_dir=programs, kv_cache_bytes=cache_bytes)
    marks: list[str] = []
    built = build(unit, report=marks.append, progress=False)
    taken["built"] = time.time() - began_s
    durations: defaultdict[str, list[float]] = defaultdict(list)
    phase = "alone"
    built.engine.watch(lambda job: durations[f"{phase} {job.model} {job.phase}"].append(job.end_s - job.start_s))
    clients = Clients(built.engine)
    clients.wait_for([clients.ask(name, tokens=8) for name in case["models"]])
    taken["first answer"] = time.time() - began_s
    if case["until_all"]:
        _wait_until(lambda: all(count.ready + len(count.failed) == count.all for count in built.lifecycle.programs().values()))
        taken["all programs"] = time.time() - began_s
    if case["added"]:
        over = threading.Event()
        crowd = threading.Thread(target=_keep_busy, args=(clients, case["models"], over), daemon=True)
        crowd.start()
        time.sleep(BUSY_S)
        phase, started = "beside", time.time()
        built.lifecycle.load(options[case["added"]])
        clients.wait_for([clients.ask(case["added"], tokens=8)])
        taken["added"] = time.time() - started
        over.set()
        for name in case["models"]:
            for when in ("alone", "beside"):
                spent = durations[f"{when} {name} decode"] or [0.0]
                taken[f"{name} step p99 {when}"] = percentiles(spent)["p99"]
    built.engine.stop()
    return taken | {f"report {i}": line for i, line in enumerate(marks)}


def _keep_busy(clients: Clients, models: Sequence[str], over: threading.Event) -> None:
    """So many streams of each model, renewed as long as it is not over."""
    while not over.is_set():
        for name in models:
            for _ in range(STREAMS):
                clients.ask(name, tokens=ANSWER_TOKENS)
        time.sleep(BUSY_S / 4)


def _wait_until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.1)


def measure(case: Case, folders: Mapping[str, str], programs: Path, slots: int) -> dict[str, Any]:
    """One start in a process of its own."""
    request = {"case": {"models": case.models, "until_all": case.until_all, "added": case.added}, "folders": folders}
    request |= {"programs": str(programs), "slots": slots, "began_s": time.time()}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION_CACHE")}
    command = [sys.executable, "-m", "scripts.bench_start", "--child", json.dumps(request)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return json.loads(ran.stdout.splitlines()[-1])


def page(runs: Sequence[Mapping[str, Any]]) -> str:
    """The README of the result."""
    rows = []
    for run in runs:
        values, (first, last) = run["values"], GOALS_S.get(run["config"]["case"], (None, None))
        rows.append(
            [run["config"]["case"], *(_shown(values.get(key), goal) for key, goal in zip(KEYS, (None, None, first, last, 3), strict=True))]
        )
    steps = [
        [name.removesuffix(" step p99 alone"), f"{1e3 * value:.1f} ms", f"{1e3 * run['values'][name.replace('alone', 'beside')]:.1f} ms"]
        for run in runs
        for name, value in run["values"].items()
        if name.endswith("p99 alone")
    ]
    beside = f"""
Adding a model beside two that serve {STREAMS} new streams a second or so; p99 of their decode steps:

{results.table(["model", "before", "while it is added"], steps)}
"""
    return f"""# How long does a start take?

Seconds since the process began, with random weights (making them is part of it). "First answer": a token of every model. The goals are
in brackets. Made by `python -m scripts.bench_start`; the runs are in [runs.jsonl](runs.jsonl). Device: {runs[0]["device"]}.

{results.table(["start", *KEYS], rows)}
{beside if steps else ""}"""


KEYS = ("imported", "built", "first answer", "all programs", "added")


def _shown(value: float | None, goal: float | None) -> str:
    return "" if value is None else f"{value:.1f}" + (f" ({goal})" if goal else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="models of toy size, on anything")
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--keep-nothing", action="store_true", help="write no results")
    parser.add_argument("--only", nargs="*", default=[case.name for case in CASES], metavar="CASE")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        request = json.loads(args.child)
        print(json.dumps(child(request["case"], request["folders"], request["programs"], request["slots"], request["began_s"])))
        return
    with tempfile.TemporaryDirectory() as scratch:
        specs = {name: TINY if args.tiny else BY_NAME[name] for name in MODELS}
        folders = {name: str(path) for name, path in write_dummy_models(Path(scratch), specs).items()}
        records = []
        for case in CASES:
            if case.name not in args.only:
                continue
            programs = Path(scratch) / ("alone" if case.models == LARGE else "programs")
            values = measure(case, folders, programs, 8 if args.tiny else args.slots)
            config = {"case": case.name, "models": case.models, "slots": args.slots, "tiny": args.tiny}
            records.append(results.run_record(device=_device(), config=config, seed=0, values=values))
            print(case.name, {key: round(value, 2) for key, value in values.items() if isinstance(value, float)}, flush=True)
            if not args.keep_nothing:
                results.write_runs(QUESTION, "runs", records)
                results.write_readme(QUESTION, page(records))


def _device() -> str:
    command = [sys.executable, "-c", "import jax; print(jax.devices()[0].device_kind)"]
    kind = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return kind if kind != "cpu" else results.host()


if __name__ == "__main__":
    main()
