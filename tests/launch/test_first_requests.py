"""When a worker is ready, whatever a first request asks has run: for it nothing is compiled, nor launched for the first time."""

import json
from collections.abc import Iterator
from dataclasses import replace

import jax
import numpy as np
import pytest

from muxjax.device.post_step import PostStep
from muxjax.engine.loop import turn
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.engine.unit import Unit
from muxjax.launch.build import model_config
from muxjax.launch.worker import Worker, start_worker
from muxjax.progress import Progress
from muxjax.scheduler.policies import by_name
from muxjax.specs.config import to_hf_config
from muxjax.types import Grammar, GrammarKind, Output, Pooling, Request, Sampling
from tests.device.test_step import SPEC
from tests.engine.controls import tokenizer
from tests.fake_device import FakeClock
from tests.xla_cache import XLA_CACHE

KINDS = {
    "greedy": Sampling(temperature=0.0, max_tokens=4),
    "sampled": Sampling(temperature=1.0, top_k=5, top_p=0.9, min_p=0.01, max_tokens=4),
    "penalties": Sampling(temperature=0.0, presence_penalty=1.0, repetition_penalty=1.2, max_tokens=4),
    "bias": Sampling(temperature=0.0, logit_bias=((3, 5.0),), max_tokens=4),
    "bans": Sampling(temperature=0.0, bad_words=((1,), (2, 3)), max_tokens=4),
    "allowed": Sampling(temperature=0.0, allowed_token_ids=frozenset({5, 6}), max_tokens=4),
    "grammar": Sampling(temperature=0.0, grammar=Grammar(kind=GrammarKind.REGEX, text="[ab]+"), max_tokens=4),
    "logprobs": Sampling(temperature=0.0, logprobs=3, max_tokens=4),
    "prompt logprobs": Sampling(temperature=0.0, prompt_logprobs=3, max_tokens=4),
    "pooled": Sampling(temperature=0.0, pooling=Pooling.MEAN, max_tokens=1),
    "all": Sampling(temperature=1.0, frequency_penalty=1.0, bad_words=((2, 3),), logprobs=1, prompt_logprobs=1, max_tokens=4),
}


class Firsts:
    """What runs for the first time in this process: programs launched, masks put on the device; and how often XLA compiles."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.programs: set[int] = set()
        self.masks: set[tuple[int, int]] = set()
        self.compiles = 0
        launch, open_mask = jax.stages.Compiled.__call__, PostStep._all_allowed
        monkeypatch.setattr(jax.stages.Compiled, "__call__", lambda program, *a, **k: self._launched(program) or launch(program, *a, **k))
        monkeypatch.setattr(PostStep, "_all_allowed", lambda post, rows: self.masks.add((id(post), rows)) or open_mask(post, rows))

    def _launched(self, program: jax.stages.Compiled) -> None:
        self.programs.add(id(program))

    def hear(self, event: str, duration_secs: float, **_: str | int) -> None:
        self.compiles += "backend_compile" in event


@pytest.fixture
def firsts(monkeypatch) -> Iterator[Firsts]:
    counts = Firsts(monkeypatch)
    jax.monitoring.register_event_duration_secs_listener(counts.hear)
    yield counts
    jax.monitoring.unregister_event_duration_listener(counts.hear)


def ready(folder, vocabulary: str) -> tuple[UnitOptions, Worker]:
    folder.joinpath("config.json").write_text(json.dumps(to_hf_config(replace(SPEC, windows=(None, None)))))
    folder.joinpath("tokenizer.json").write_text(vocabulary)
    model = ModelOptions(name="m", path=folder, load_format="dummy", dtype="float32", max_num_seqs=4, pooling="mean")
    options = UnitOptions(
        models=(model,), block_bytes=512, kv_cache_bytes=2**17, max_num_batched_tokens=16, compilation_cache_dir=str(XLA_CACHE)
    )
    return options, start_worker(options, Progress(bars=False))


def answer(options: UnitOptions, worker: Worker, request: Request) -> list[Output]:
    config = model_config(options, worker.kv_dtype, worker.control, options.models[0], worker.models["m"])
    unit = Unit([config], total_blocks=worker.total_blocks, token_budget=16, max_rows=2, look_ahead=2)
    unit.checker.check(request)
    outputs = unit.submit(request)
    while not unit.idle:
        outputs += turn(unit, by_name("adbs"), worker.executor, FakeClock())
    return outputs


def test_the_first_request_of_each_kind_compiles_and_first_launches_nothing(tmp_path, firsts):
    options, worker = ready(tmp_path, tokenizer())
    programs, masks, compiles = set(firsts.programs), set(firsts.masks), firsts.compiles
    assert len(programs) > 5

    for kind, sampling in KINDS.items():
        outputs = answer(options, worker, Request(id=kind, model="m", prompt=tuple(range(3, 9)), sampling=sampling, arrival_s=0.0))
        assert outputs[-1].finish is not None and outputs[-1].token is not None, kind
        assert firsts.programs == programs, f"{kind} launches a program for the first time"
        assert firsts.masks == masks, f"{kind} puts a mask on the device for the first time"
        assert firsts.compiles == compiles, f"{kind} compiles"


def test_the_count_of_compiles_sees_one(firsts):
    jax.jit(lambda x: x * 3 + len("never compiled before"))(np.arange(7)).block_until_ready()
    assert firsts.compiles > 0
