"""The whole engine with adapters: each request's tokens are its own adapter's, whatever else is in the batch."""

import itertools
import queue
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.engine.speculation.options import SpeculativeOptions
from muxjax.errors import RequestError
from muxjax.launch.build import Built, build
from muxjax.models.lora.files import open_adapter
from muxjax.specs.adapter import WEIGHTS
from muxjax.specs.config import read_spec
from muxjax.types import Adapter, Finish, Output, Request, Sampling
from tests.models.adapter import make_adapter, make_base, make_golden_adapter, read_adapter_golden
from tests.programs import only_essential_programs
from tests.xla_cache import XLA_CACHE

BASE = "llama3_scaled"
GOLDEN = read_adapter_golden(BASE)
RANK, PLACES, WAIT_S = 8, 2, 120
OTHERS = 4


class Serving:
    """An engine that runs over a base and its adapters."""

    def __init__(self, built: Built):
        self.built = built
        self.said: queue.SimpleQueue[list[Output]] = queue.SimpleQueue()
        self._count = itertools.count(1)
        built.engine.start(self.said.put)

    def answers(self, adapters: Iterable[Adapter | None], prompt: tuple[int, ...] = GOLDEN.prompt, tokens: int = 40) -> list[list[Output]]:
        """Outputs of a request for each of these, all submitted between two turns."""
        engine, sampling = self.built.engine, Sampling(temperature=0.0, max_tokens=tokens)
        requests = [
            Request(id=f"r{next(self._count)}", model="base", adapter=adapter, prompt=prompt, sampling=sampling, arrival_s=time.monotonic())
            for adapter in adapters
        ]
        engine.do(lambda: [engine.submit(request) for request in requests])
        outputs: dict[str, list[Output]] = {request.id: [] for request in requests}
        while not all(each and each[-1].finish for each in outputs.values()):
            for output in self.said.get(timeout=WAIT_S):
                outputs[output.request_id].append(output)
        assert all(each[-1].finish is Finish.LENGTH for each in outputs.values())
        return list(outputs.values())

    def tokens(self, adapters: Iterable[Adapter | None], **options) -> list[tuple[int | None, ...]]:
        return [tuple(output.token for output in each) for each in self.answers(adapters, **options)]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return make_base(BASE, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapters(base, tmp_path_factory) -> list[Adapter]:
    """The golden's, and others."""
    spec = read_spec(base)
    folders = [make_golden_adapter(BASE, tmp_path_factory.mktemp("golden"))]
    folders += [make_adapter(tmp_path_factory.mktemp(f"a{seed}"), spec, seed, r=2 + seed) for seed in range(OTHERS)]
    return [open_adapter(f"a{i}", folder, spec, most_rank=RANK) for i, folder in enumerate(folders)]


@contextmanager
def serving(base: Path, *, places: int = PLACES, idle: int = 64, drafts: SpeculativeOptions | None = None, **options) -> Iterator[Serving]:
    adapters = {"max_loras": places, "max_lora_rank": RANK, "max_cpu_loras": idle}
    model = ModelOptions(name="base", path=base, max_num_seqs=8, speculative_config=drafts, **adapters)
    defaults = {"kv_cache_bytes": 4 * 2**20, "block_bytes": 2048, "max_num_batched_tokens": 64, "compilation_cache_dir": str(XLA_CACHE)}
    with only_essential_programs():
        engine = Serving(build(UnitOptions(models=(model,), **(defaults | options)), report=lambda line: None, progress=False))
    try:
        yield engine
    finally:
        engine.built.engine.stop()


@pytest.fixture(scope="module")
def alone(base, adapters) -> dict[Adapter | None, tuple[int | None, ...]]:
    """The answer of each, one after the other."""
    with serving(base) as engine:
        return {adapter: engine.tokens([adapter])[0] for adapter in [None, *adapters]}


def test_an_adapter_answers_as_peft_does_with_it_merged_and_the_base_as_without(alone, adapters):
    assert alone[adapters[0]] == GOLDEN.tokens
    assert alone[None] == GOLDEN.base_tokens
    assert len(set(alone.values())) == OTHERS + 2


@pytest.mark.parametrize("places", [1, PLACES, OTHERS + 1])
def test_more_adapters_than_places_in_one_batch_answer_each_as_alone(base, adapters, alone, places):
    wanted = [*adapters, None, *reversed(adapters), None, adapters[0]]
    with serving(base, places=places) as engine:
        assert engine.tokens(wanted) == [alone[adapter] for adapter in wanted]
        places_now = engine.built.engine.stats().models[0]
        assert places_now.running == 0


def test_prompts_in_chunks_and_sequences_that_are_pre_empted_keep_their_adapter(base, adapters, alone):
    wanted = [adapters[0], None, adapters[1], adapters[0], adapters[1], None]
    with serving(base, max_num_batched_tokens=16, kv_cache_bytes=2048 * 80, policy="fcfs") as engine:
        assert engine.tokens(wanted) == [alone[adapter] for adapter in wanted]
        assert engine.built.engine.stats().models[0].preemptions > 0


def test_drafts_are_checked_by_the_adapter_of_what_they_follow(base, adapters, alone):
    wanted = [adapters[0], None, adapters[1]]
    with serving(base, drafts=SpeculativeOptions(method="ngram", prompt_lookup_min=1)) as engine:
        assert engine.tokens(wanted) == [alone[adapter] for adapter in wanted]


def test_what_one_adapter_has_computed_is_of_no_use_to_another_nor_to_the_base(base, adapters):
    with serving(base) as engine:
        cached = {}
        for name, adapter in (("first", adapters[0]), ("base", None), ("other", adapters[1]), ("again", adapters[0])):
            cached[name] = engine.answers([adapter])[0][0].cached_tokens
        assert [cached[name] for name in ("first", "base", "other")] == [0, 0, 0]
        assert cached["again"] > 0


def test_two_devices_share_adapters_out(base, adapters, alone):
    wanted = [adapters[0], None, *adapters]
    with serving(base, tensor_parallel_size=2) as engine:
        assert engine.tokens(wanted) == [alone[adapter] for adapter in wanted]


def test_a_model_that_has_slept_brings_its_adapters_in_again(base, adapters, alone):
    with serving(base) as engine:
        engine.tokens([adapters[0]])
        lifecycle = engine.built.lifecycle
        lifecycle.sleep("base", timeout_s=5)
        with only_essential_programs():
            lifecycle.wake("base")
        assert engine.tokens([adapters[0], None]) == [alone[adapters[0]], alone[None]]


def test_an_adapter_that_nobody_can_read_any_more_fails_alone(base, adapters, alone, tmp_path):
    folder = make_adapter(tmp_path / "gone", read_spec(base), 9)
    gone = open_adapter("gone", folder, read_spec(base), most_rank=RANK)
    (folder / WEIGHTS).unlink()
    request = Request(id="x", model="base", adapter=gone, prompt=(1,), sampling=Sampling(), arrival_s=0.0)
    with serving(base, idle=0) as engine:
        with pytest.raises(RequestError, match=r"damaged") as refused:
            engine.built.engine.prepare(request)
        assert refused.value.status == 503
        assert engine.tokens([adapters[0]]) == [alone[adapters[0]]]


def test_a_model_without_places_refuses_adapters(base, adapters):
    request = Request(id="x", model="base", adapter=adapters[0], prompt=(1,), sampling=Sampling(), arrival_s=0.0)
    with serving(base, places=0) as engine, pytest.raises(RequestError, match="no place for adapters"):
        engine.built.engine.submit(request)
