"""How long does a start take, until the first answer and until every program is there; with nothing kept, and with all of it?

    python -m scripts.bench_start                     # on a GPU: LLaMA 3's 8B alone, then 8B, 3B and 1B together
    python -m scripts.bench_start --tiny              # toy models, on a CPU
    python -m scripts.bench_start --demo
    python -m scripts.bench_start --slots 512 --programs FOLDER   # that of scripts.bench_colocation, whose programs are the same

Each start is a process of its own with random weights of the real size: from its first line to a token of every model, to the last
program. Two cases add a model to an engine that serves two others, whose programs are kept; the last one takes apart what the programs
cost that a start waits for. The options are those of `scripts.bench_colocation`, but for the slots.
Writes docs/results/start/, and of the demo a line of README.md.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from muxjax.model_spec import ModelSpec
from muxjax.specs.config import read_spec
from muxjax.specs.dummy import write_dummy_models
from muxjax.specs.published import BY_NAME
from muxjax.types import Finish, Output, Request, Sampling
from muxjax.workload.metrics import percentiles
from scripts import results
from scripts.colocation import ways
from scripts.start_page import COSTS, STREAMS, page, sentence

QUESTION = "start"
LARGE, MODELS = ("llama-3.1-8b",), ("llama-3.1-8b", "llama-3.2-3b", "llama-3.2-1b")
ADDED = "llama-3.2-1b"
KEPT = "programs"
"""Store of all three models, which cases share."""
BUSY_S, ANSWER_TOKENS = 5.0, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One process: the models it starts with, the one that it is to add, and the folder where it keeps programs.

    Args:
      until_all: it goes on when every program is there, be it compiled or only loaded, so that nothing is made behind.
    """

    name: str
    models: tuple[str, ...]
    until_all: bool = True
    added: str = ""
    store: str = KEPT


CASES = (
    Case(name="one model, nothing kept", models=LARGE, until_all=False, store="alone"),
    Case(name="three models, nothing kept", models=MODELS),
    Case(name="three models, everything kept", models=MODELS),
    Case(name="adding a model, its programs not kept", models=MODELS[:2], added=ADDED, store="added"),
    Case(name="adding a model, its programs kept", models=MODELS[:2], added=ADDED),
)
COSTS_CASE = "costs of programs"
DEMOS = ("make demo, nothing kept", "make demo, everything kept")


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


def child(
    *, case: Mapping[str, Any], folders: Mapping[str, str], programs: str, slots: int, tiny: bool, began_s: float
) -> dict[str, float | str]:
    """What one start took, in seconds since the process began."""
    from muxjax.launch.build import build

    taken: dict[str, float | str] = {"imported": time.time() - began_s}
    unit = ways.unit({name: Path(folders[name]) for name in case["models"]}, programs=programs, slots=slots, tiny=tiny)
    marks: list[str] = []
    built = build(unit, report=marks.append, progress=False)
    taken["built"] = time.time() - began_s
    durations: defaultdict[str, list[float]] = defaultdict(list)
    phase = "alone"
    built.engine.watch(lambda job: durations[f"{phase} {job.model} {job.phase}"].append(job.end_s - job.start_s))
    clients = Clients(built.engine)
    clients.wait_for([clients.ask(name, tokens=8) for name in case["models"]])
    taken["first answer"] = time.time() - began_s
    taken["processor"] = _processor_s(os.getpid())
    if case["until_all"]:
        _wait_until(lambda: all(count.ready + len(count.failed) == count.all for count in built.lifecycle.programs().values()))
        taken["all programs"] = time.time() - began_s
    if case["added"]:
        over = threading.Event()
        crowd = threading.Thread(target=_keep_busy, args=(clients, case["models"], over), daemon=True)
        crowd.start()
        time.sleep(BUSY_S)
        phase, started = "beside", time.time()
        built.lifecycle.load(ways.model(case["added"], Path(folders[case["added"]]), slots=slots, tiny=tiny))
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


def measure(case: Case, folders: Mapping[str, str], programs: Path, *, slots: int, tiny: bool) -> dict[str, Any]:
    """One start in a process of its own."""
    request = {"case": {"models": case.models, "until_all": case.until_all, "added": case.added}, "folders": folders}
    return _in_child(request | {"programs": str(programs), "slots": slots, "tiny": tiny, "began_s": time.time()})


def keep_others(store: Path, copy: Path, spec: ModelSpec) -> None:
    """Has `copy` hold what `store` does of other models: all programs that are not made of that spec, and choices of kernels."""
    for program in store.glob("*/*.program"):
        with program.open("rb") as file:
            source = json.loads(file.readline())["source"]
        if repr(spec) not in source:
            there = copy / program.relative_to(store)
            there.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(program, there)
            except OSError:  # of another disk
                shutil.copy2(program, there)
    if (store / "tuning").exists():
        shutil.copytree(store / "tuning", copy / "tuning")


def _in_child(request: Mapping[str, Any]) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION_CACHE")}
    command = [sys.executable, "-m", "scripts.bench_start", "--child", json.dumps(request)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return json.loads(ran.stdout.splitlines()[-1])


def costs(models: Mapping[str, str], slots: int) -> list[dict[str, Any]]:
    """Seconds of tracing, lowering, XLA, keeping, loading and running each kind of program that a start waits for, by model."""
    import jax

    from muxjax.device import memory
    from muxjax.device.loader import ModelLoader
    from muxjax.device.programs.compiler import Compiler
    from muxjax.device.programs.store import ProgramStore, without_jax_cache
    from muxjax.engine.options import ModelOptions, UnitOptions

    without_jax_cache()
    spent: defaultdict[str, float] = defaultdict(float)

    def heard(event: str, duration_secs: float, **metadata: str | int) -> None:
        spent[event] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(heard)
    options = [ModelOptions(name=name, path=Path(path), load_format="dummy", max_num_seqs=slots) for name, path in models.items()]
    loader = ModelLoader.of(UnitOptions(models=tuple(options), kv_cache_bytes=2**24 if slots <= 16 else 2**33))
    pool = loader.pool(memory.blocks_in(loader.options, loader.options.kv_cache_bytes or 0))
    compiler, seen, rows = Compiler(devices=loader.devices), set(), {}
    with tempfile.TemporaryDirectory() as folder:
        store = ProgramStore(Path(folder), "costs")
        for model in options:
            needs = loader.needs(loader.plan(model))
            for source in needs.of(needs.essential, pool):
                if source in seen:
                    continue
                seen.add(source)
                kind = type(source).__name__.removesuffix("Source").lower()
                row = rows.setdefault((model.name, kind), {"model": model.name, "program": kind, "count": 0, **dict.fromkeys(COSTS, 0.0)})
                row["count"] += 1
                for key, seconds in _cost(source, compiler, store, spent).items():
                    row[key] += seconds
    return list(rows.values())


def _cost(source: Any, compiler: Any, store: Any, spent: defaultdict[str, float]) -> dict[str, float]:
    import jax
    import jax.numpy as jnp

    spent.clear()
    _, program = compiler.compile(source)
    taken = {name: spent[f"/jax/core/compile/{event}"] for name, event in EVENTS.items()}
    for name, action in (
        ("keeping", lambda: store.keep(repr(source), program)),
        ("loading", lambda: store.load(repr(source), compiler.devices.each)),
    ):
        taken[name] = _seconds(action)
    for name in COSTS[-2:]:
        arguments, _ = jax.tree.map(
            lambda info, at: jnp.zeros(info.shape, info.dtype, device=at), program.args_info, program.input_shardings
        )
        jax.block_until_ready(arguments)
        taken[name] = _seconds(lambda arguments=arguments: jax.block_until_ready(program(*arguments)))
    return taken


EVENTS = {"tracing": "jaxpr_trace_duration", "lowering": "jaxpr_to_mlir_module_duration", "XLA": "backend_compile_duration"}


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def demo(home: Path) -> dict[str, float]:
    """One `muxjax demo` in a process of its own, with that home: seconds to its first answer, and until it has ended."""
    began_s, values = time.time(), {"load": os.getloadavg()[0]}
    environment = os.environ | {"HOME": str(home), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "muxjax", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment) as process:
        assert process.stdout
        for line in process.stdout:
            if "  right  " in line:
                values.setdefault("first answer", time.time() - began_s)
                values.setdefault("processor", _processor_s(process.pid))
    if process.returncode:
        raise RuntimeError(f"the demo ended with {process.returncode}")
    return values | {"ended": time.time() - began_s}


def _processor_s(pid: int) -> float:
    """Seconds that processors have spent on a process so far, as Linux tells."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="models of toy size, on anything")
    parser.add_argument("--demo", action="store_true", help="muxjax demo, with nothing kept and with all of it")
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--programs", type=Path, metavar="FOLDER", help="where three models' programs are kept (a folder of its own)")
    parser.add_argument("--keep-nothing", action="store_true", help="write no results")
    parser.add_argument("--only", nargs="*", metavar="CASE", help="some of: " + ", ".join([*(case.name for case in CASES), COSTS_CASE]))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        request = json.loads(args.child)
        if request["case"] == COSTS_CASE:
            print(json.dumps({"costs": costs(request["folders"], request["slots"])}))
            return
        print(json.dumps(child(**request)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        records = []
        for case, values in _demos(Path(scratch)) if args.demo else _measured(Path(scratch), args):
            config = {"case": case, "slots": 8 if args.tiny else args.slots, "tiny": args.tiny}
            records.append(results.run_record(device=_device(), config=config, seed=0, values=values))
            print(case, {key: round(value, 2) for key, value in values.items() if isinstance(value, float)}, flush=True)
            if not args.keep_nothing:
                results.write_runs(QUESTION, "runs-demo" if args.demo else "runs-cpu" if args.tiny else "runs", records)
                results.write_readme(QUESTION, page(results.read_runs(QUESTION)))
        if args.demo and not args.keep_nothing:
            results.write_section("start", sentence(records))


def _demos(scratch: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for case in DEMOS:
        yield case, demo(scratch)


def _measured(scratch: Path, args: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each case and what it took."""
    toys = {name: replace(ways.TINY, ffn=96 + 32 * i) for i, name in enumerate(MODELS)}  # no program is shared
    specs = toys if args.tiny else {name: BY_NAME[name] for name in MODELS}
    folders = {name: str(path) for name, path in write_dummy_models(scratch, specs).items()}
    slots, store = 8 if args.tiny else args.slots, (args.programs or scratch / KEPT).expanduser()
    for case in CASES:
        if not args.only or case.name in args.only:
            programs = store if case.store == KEPT else scratch / case.store
            if case.added and programs != store:
                added = ways.model(case.added, Path(folders[case.added]), slots=slots, tiny=args.tiny)
                keep_others(store, programs, read_spec(added.path, max_len=added.max_model_len, weights=False))
            yield case.name, {"load": os.getloadavg()[0]} | measure(case, folders, programs, slots=slots, tiny=args.tiny)
    if not args.only or COSTS_CASE in args.only:
        yield COSTS_CASE, _in_child({"case": COSTS_CASE, "folders": folders, "slots": slots})


def _device() -> str:
    command = [sys.executable, "-c", "import jax; print(jax.devices()[0].device_kind)"]
    kind = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return kind if kind != "cpu" else results.host()


if __name__ == "__main__":
    main()
