"""A server whose models have lanes of their own, from options to answers."""

import json
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.launch.build import Built, build
from muxjax.specs.config import to_hf_config
from muxjax.types import Output, Request, Sampling
from tests.device.test_step import SPEC
from tests.programs import only_essential_programs
from tests.xla_cache import XLA_CACHE

NAMES = "abc"


@pytest.fixture
def folder(tmp_path) -> Path:
    tmp_path.joinpath("config.json").write_text(json.dumps(to_hf_config(replace(SPEC, windows=(None, None)))))
    return tmp_path


def options_of(name: str, folder: Path) -> ModelOptions:
    return ModelOptions(name=name, path=folder, load_format="dummy", dtype="float32", max_num_seqs=4)


@contextmanager
def served(folder: Path, names: str, lanes: int) -> Iterator[tuple[Built, queue.SimpleQueue[list[Output]]]]:
    options = UnitOptions(
        models=tuple(options_of(name, folder) for name in names),
        lanes=lanes,
        max_num_batched_tokens=32,
        kv_cache_bytes=2**20,
        compilation_cache_dir=str(XLA_CACHE),
    )
    with only_essential_programs():
        built, said = build(options, report=lambda line: None, progress=False), queue.SimpleQueue()
    built.engine.start(said.put)
    try:
        yield built, said
    finally:
        built.engine.stop()


def answers(built: Built, said: queue.SimpleQueue[list[Output]], names: str) -> dict[str, list[int | None]]:
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


def lanes_of(built: Built) -> list[set[str]]:
    return [set(lane.models) for lane in built.lifecycle._devices._executor.lanes]  # pyright: ignore[reportAttributeAccessIssue]


def test_models_in_lanes_of_their_own_answer_as_in_one_and_a_model_more_goes_where_the_fewest_are(folder):
    with served(folder, "ab", 1) as (built, said):
        wanted = answers(built, said, "ab")
    with served(folder, "ab", 2) as (built, said):
        assert lanes_of(built) == [{"a"}, {"b"}] and answers(built, said, "ab") == wanted
        built.lifecycle.remove("a", timeout_s=60)
        built.lifecycle.load(options_of("c", folder))
        assert lanes_of(built) == [{"c"}, {"b"}]
        assert answers(built, said, "bc") == {"b": wanted["b"], "c": wanted["a"]}
