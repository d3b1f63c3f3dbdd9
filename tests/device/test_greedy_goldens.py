"""The whole engine against transformers: greedy tokens through the paged cache, whatever else is in the batch."""

import queue
import time
from collections.abc import Collection

import pytest

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.engine.speculation.options import SpeculativeOptions
from muxjax.launch.build import Built, build
from muxjax.scheduler.policies import BY_NAME
from muxjax.types import Finish, Output, Request, Sampling
from tests.models.golden import NAMES, make_model, read_golden
from tests.programs import only_essential_programs
from tests.xla_cache import XLA_CACHE

WAIT_S = 120
MIXED = ("llama3_scaled", "mistral_windowed", "qwen2_windowed", "qwen3", "qwen2_moe", "deepseek_v2")
"""Head sizes 32, 16, 16, 64 and 16, and latents; windows in no layer, in all, and in some; experts in one layer of three."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: make_model(name, tmp_path_factory.mktemp("models") / name, read_golden(name).seed) for name in NAMES}


class Serving:
    """A started engine over goldens, with small head blocks and chunks, so that every sequence has many of both; `fp8` are the models whose
    cache is FP8."""

    def __init__(
        self,
        folders,
        names,
        *,
        pooling: str | None = None,
        speculative_config: SpeculativeOptions | None = None,
        fp8: Collection[str] = (),
        **options,
    ):
        models = tuple(
            ModelOptions(
                name=name,
                path=folders[name],
                max_num_seqs=8,
                kv_cache_dtype="fp8" if name in fp8 else "auto",
                pooling=pooling,
                speculative_config=speculative_config,
            )
            for name in names
        )
        defaults = {"kv_cache_bytes": 4 * 2**20, "block_bytes": 2048, "max_num_batched_tokens": 64, "compilation_cache_dir": str(XLA_CACHE)}
        with only_essential_programs():
            self.built: Built = build(UnitOptions(models=models, **(defaults | options)), report=lambda line: None, progress=False)
        self.said: queue.SimpleQueue[list[Output]] = queue.SimpleQueue()
        self.built.engine.start(self.said.put)

    def __enter__(self) -> "Serving":
        return self

    def __exit__(self, *_) -> None:
        self.built.engine.stop()

    def answers(self, wanted: list[tuple[str, int]]) -> list[list[Output]]:
        """Outputs of those goldens' requests, (name, number), all submitted between two turns."""
        requests = [_request(str(i), *one) for i, one in enumerate(wanted)]
        engine = self.built.engine
        engine.do(lambda: [engine.submit(request) for request in requests])
        outputs: list[list[Output]] = [[] for _ in wanted]
        while not all(each and each[-1].finish for each in outputs):
            for output in self.said.get(timeout=WAIT_S):
                outputs[int(output.request_id)].append(output)
        return outputs


def _request(request_id: str, name: str, number: int) -> Request:
    golden = read_golden(name)
    sampling = Sampling(temperature=0.0, max_tokens=len(golden.tokens[number]))
    return Request(id=request_id, model=name, prompt=golden.prompts[number], sampling=sampling, arrival_s=time.monotonic())


def assert_golden(wanted: list[tuple[str, int]], outputs: list[list[Output]]) -> None:
    for (name, number), each in zip(wanted, outputs, strict=True):
        assert tuple(output.token for output in each) == read_golden(name).tokens[number], (name, number)
        assert each[-1].finish is Finish.LENGTH


@pytest.mark.parametrize("name", NAMES)
def test_each_family_alone_makes_the_tokens_of_transformers_up_to_its_maximum_length(folders, name):
    with Serving(folders, [name]) as serving:
        assert len(read_golden(name).longest) == serving.built.models[name].max_len
        for number in (0, 2):
            assert_golden([(name, number)], serving.answers([(name, number)]))


@pytest.mark.parametrize("policy", BY_NAME)
@pytest.mark.parametrize("budget", [16, 64])
def test_models_of_all_shapes_mixed_on_one_arena_make_the_same_tokens(folders, policy, budget):
    """A budget of 16 cuts prompts of 17 and 40 tokens into chunks; one of 64 takes several whole."""
    wanted = [(name, number) for number in (2, 0, 1, 0) for name in MIXED]
    with Serving(folders, MIXED, policy=policy, max_num_batched_tokens=budget) as serving:
        assert_golden(wanted, serving.answers(wanted))
        stats = serving.built.engine.stats()
        assert stats.free_blocks == stats.total_blocks


def test_preempted_requests_make_the_same_tokens(folders):
    """An arena of 80 head blocks, of which the longest request of one model alone needs 64."""
    wanted = [(name, number) for number in (2, 1, 0) for name in ("llama3_scaled", "mistral_windowed")]
    with Serving(folders, ["llama3_scaled", "mistral_windowed"], kv_cache_bytes=80 * 2048) as serving:
        assert_golden(wanted, serving.answers(wanted))
        assert sum(model.preemptions for model in serving.built.engine.stats().models) > 0


def test_a_golden_of_another_request_would_be_noticed(folders):
    with Serving(folders, ["llama2"]) as serving:
        outputs = serving.answers([("llama2", 0)])
    with pytest.raises(AssertionError):
        assert_golden([("llama2", 1)], outputs)
