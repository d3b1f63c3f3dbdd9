"""A program that cannot be made while the engine serves leaves its steps to larger ones, is told, and ends nothing."""

import json
import queue
import time
from dataclasses import replace

import pytest

from muxjax.device.programs.compiler import Compiler
from muxjax.device.programs.sources import StepSource
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.launch.build import Built, build
from muxjax.server.catalog import Catalog
from muxjax.server.http.routes.info import about
from muxjax.server.service import Service
from muxjax.server.text.tokenizer import ByteTokenizer
from muxjax.specs.config import to_hf_config
from muxjax.types import Finish, Output, Request, Sampling
from tests.device.test_step import SPEC
from tests.server.kit import served

WAIT_S = 120


@pytest.fixture
def options(tmp_path) -> UnitOptions:
    (tmp_path / "config.json").write_text(json.dumps(to_hf_config(replace(SPEC, windows=(None, None)))))
    model = ModelOptions(name="m", path=tmp_path, load_format="dummy", dtype="float32", max_num_seqs=32)
    sizes = {"block_bytes": 512, "kv_cache_bytes": 2**18, "max_num_batched_tokens": 16, "compilation_cache_dir": ""}
    return UnitOptions(models=(model,), **sizes)


@pytest.fixture
def built(options, monkeypatch):
    """An engine whose only missing steps, those of 8 rows, cannot be compiled."""
    compile_it = Compiler.compile

    def failing(self, source):
        if isinstance(source, StepSource) and source.shape.decode_rows == 8:
            raise ValueError("the compiler has a defect")
        return compile_it(self, source)

    monkeypatch.setattr(Compiler, "compile", failing)
    engine = build(options, report=lambda line: None, progress=False)
    yield engine
    engine.engine.stop()


def wait_until_settled(built: Built) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while (count := built.lifecycle.programs()["m"]) and count.ready + len(count.failed) < count.all:
        assert time.monotonic() < deadline_s, count
        time.sleep(0.05)


def test_a_program_that_cannot_be_made_is_told_and_its_requests_are_answered(built, options):
    said: queue.SimpleQueue[Output] = queue.SimpleQueue()
    built.engine.start(lambda outputs: [said.put(output) for output in outputs])
    wait_until_settled(built)
    sampling = Sampling(temperature=0.0, max_tokens=3)
    built.engine.submit(Request(id="r", model="m", prompt=(1, 2, 3), sampling=sampling, arrival_s=time.monotonic()))
    outputs = [said.get(timeout=WAIT_S) for _ in range(3)]
    service = Service(built.engine, Catalog([served(ByteTokenizer(SPEC.vocab), "m")]), options, built.lifecycle)
    (told,) = about(service)["models"]

    assert outputs[-1].finish is Finish.LENGTH and built.engine.healthy
    assert told["programs"]["ready"] == told["programs"]["all"] - 1
    assert told["programs"]["failed"] == ["a step of 8 tokens in 8 rows: ValueError"]
