"""Do models in lanes of their own say, token for token, what they say in turns, while head blocks pass from one to another all the time?

    python -m scripts.check_lanes                        # on a GPU: 10,000 steps
    python -m scripts.check_lanes --steps 500            # anywhere: on a CPU each lane has an arena of its own

Three small models with random weights, float32 and one size of steps, so that a row's numbers do not depend on which others its step
has; a cache that just holds what runs, so that blocks which one model frees another takes. Nothing is pre-empted: a token that is
computed again goes as part of a prompt, and rounds otherwise. Writes docs/results/lanes/.
"""

import argparse
import itertools
import queue
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import jax
from tqdm import tqdm

from muxjax.engine.engine import Engine
from muxjax.engine.job_records import JobRecord
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.launch.build import build
from muxjax.launch.program_builder import ProgramBuilder
from muxjax.model_spec import ModelSpec
from muxjax.specs.dummy import write_dummy_models
from muxjax.types import Output, Request, Sampling
from scripts import results

QUESTION = "lanes"
NAMES = ("a", "b", "c")
SPEC = ModelSpec(
    vocab=512, width=64, layers=3, heads=4, kv_heads=2, head_dim=32, ffn=128, max_len=512, windows=(None,) * 3, dtype="float32"
)
STREAMS = 16
"""Requests of each model at a time, and its slots."""
WAIT_S = 300
CACHE_BYTES = 40 * 2**20
"""What all streams need at their longest, nearly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What an engine said: tokens by request, steps and pre-emptions of all models, lanes that it had, and the seconds it took."""

    tokens: dict[str, list[int | None]]
    steps: int
    preemptions: int
    lanes: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000, help="of all models together, at least")
    args = parser.parse_args()
    jax.config.update("jax_default_matmul_precision", "highest")
    requests = -(-args.steps // 25)
    turns, lanes = run(1, requests), run(len(NAMES), requests)
    wrong = [name for name, tokens in turns.tokens.items() if lanes.tokens[name] != tokens]
    values = {
        "requests": requests,
        "wrong": wrong,
        **{
            way: {key: value for key, value in asdict(done).items() if key != "tokens"}
            for way, done in (("turns", turns), ("lanes", lanes))
        },
    }
    record = results.run_record(device=jax.devices()[0].device_kind, config={"steps": args.steps}, seed=0, values=values)
    results.write_runs(QUESTION, jax.default_backend(), [record])
    results.write_readme(QUESTION, page(results.read_runs(QUESTION)))
    print(values)
    if wrong or lanes.lanes != len(NAMES) or turns.preemptions or lanes.preemptions or lanes.steps < args.steps:
        raise SystemExit("the answers differ, or the run was too easy to show anything")


def run(lanes: int, requests: int) -> Run:
    """All requests, so many streams of each model at a time, each as long as a sequence may be."""
    said: queue.SimpleQueue[list[Output]] = queue.SimpleQueue()
    jobs: list[JobRecord] = []
    tokens: dict[str, list[int | None]] = {str(number): [] for number in range(requests)}
    with engine_of(lanes) as engine, tqdm(total=requests, desc=f"{lanes} lanes", unit="request") as bar:
        engine.watch(jobs.append)
        engine.start(said.put)
        began_s = time.monotonic()
        coming = (request(number) for number in range(requests))
        for first in itertools.islice(coming, len(NAMES) * STREAMS):
            engine.submit(first)
        while bar.n < requests:
            for output in said.get(timeout=WAIT_S):
                tokens[output.request_id].append(output.token)
                if output.finish:
                    bar.update()
                    for following in itertools.islice(coming, 1):
                        engine.submit(following)
        models = engine.stats().models
        return Run(
            tokens=tokens,
            steps=len(jobs),
            preemptions=sum(model.preemptions for model in models),
            lanes=1 + max(model.lane for model in models),
            seconds=time.monotonic() - began_s,
        )


def request(number: int) -> Request:
    """The number decides its model, prompt and length."""
    length = 8 + 37 * number % 120
    prompt = tuple((number * 31 + 7 * i) % SPEC.vocab for i in range(length))
    sampling = Sampling(temperature=0.0, max_tokens=SPEC.max_len - length)
    return Request(id=str(number), model=NAMES[number % len(NAMES)], prompt=prompt, sampling=sampling, arrival_s=time.monotonic())


@contextmanager
def engine_of(lanes: int) -> Iterator[Engine]:
    """An engine of the three models, not started; stopped when the block is left. It builds no program beside the one that holds all."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_dummy_models(Path(folder), dict.fromkeys(NAMES, SPEC))
        models = tuple(
            ModelOptions(name=name, path=path, load_format="dummy", dtype="float32", max_num_seqs=STREAMS) for name, path in paths.items()
        )
        options = UnitOptions(
            models=models,
            lanes=lanes,
            max_num_batched_tokens=64,
            kv_cache_bytes=CACHE_BYTES,
            kv_dtype="float32",
            compilation_cache_dir=str(Path(folder, "programs")),
        )
        with mock.patch.object(ProgramBuilder, "start"):
            built = build(options, progress=False)
        try:
            yield built.engine
        finally:
            built.engine.stop()


def page(runs: list[dict]) -> str:
    """The answer for people."""
    rows = [
        (
            run["device"],
            way,
            *(run["values"][way][key] for key in ("lanes", "steps", "preemptions")),
            f"{run['values'][way]['seconds']:.1f}",
            len(run["values"]["wrong"]),
        )
        for run in runs
        for way in ("turns", "lanes")
    ]
    return f"""# Do models in lanes of their own say, token for token, what they say in turns?

Three small models with random weights, float32 and one size of steps, so that a row's numbers do not depend on which others its step
has; a cache that just holds what runs, so that blocks which one model frees another takes. Nothing is pre-empted: a token that is
computed again goes as part of a prompt, and rounds otherwise.
Command: `python -m scripts.check_lanes`.

{results.table(("device", "way", "lanes", "steps", "pre-emptions", "seconds", "requests whose tokens differ"), rows)}
"""


if __name__ == "__main__":
    main()
