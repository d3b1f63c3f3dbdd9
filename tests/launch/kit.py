"""What tests of served models share: one small model under several names, an engine of it, and its answers."""

import json
import queue
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.launch.build import Built, build
from muxjax.specs.config import to_hf_config
from muxjax.types import Output, Request, Sampling
from tests.device.test_step import SPEC
from tests.programs import only_essential_programs
from tests.xla_cache import XLA_CACHE


def write_model(folder: Path) -> Path:
    folder.joinpath("config.json").write_text(json.dumps(to_hf_config(replace(SPEC, windows=(None, None)))))
    return folder


def options_of(name: str, folder: Path, devices: tuple[int, ...] | None = None) -> ModelOptions:
    return ModelOptions(name=name, path=folder, load_format="dummy", dtype="float32", max_num_seqs=4, devices=devices)


@contextmanager
def served(
    folder: Path, held: Mapping[str, tuple[int, ...] | None], *, lanes: int = 1, tp: int = 1, cache: Path = XLA_CACHE
) -> Iterator[tuple[Built, queue.SimpleQueue[list[Output]]]]:
    """An engine that runs, and what it says; `held` has the devices of each model, None for all."""
    options = UnitOptions(
        models=tuple(options_of(name, folder, devices) for name, devices in held.items()),
        lanes=lanes,
        tensor_parallel_size=tp,
        max_num_batched_tokens=32,
        kv_cache_bytes=2**20,
        compilation_cache_dir=str(cache),
    )
    with only_essential_programs():
        built, said = build(options, report=lambda line: None, progress=False), queue.SimpleQueue()
    built.engine.start(said.put)
    try:
        yield built, said
    finally:
        built.engine.stop()


def answers(built: Built, said: queue.SimpleQueue[list[Output]], names: Sequence[str]) -> dict[str, list[int | None]]:
    """Greedy answers of all models at once."""
    for name in names:
        sampling = Sampling(temperature=0.0, max_tokens=8)
        built.engine.submit(Request(id=name, model=name, prompt=(5, 6, 7), sampling=sampling, arrival_s=time.monotonic()))
    tokens: dict[str, list[int | None]] = {name: [] for name in names}
    ended: set[str] = set()
    while len(ended) < len(names):
        for output in said.get(timeout=120):
            tokens[output.request_id].append(output.token)
            ended |= {output.request_id} if output.finish else set()
    return tokens
