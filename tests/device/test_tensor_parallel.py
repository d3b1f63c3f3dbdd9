"""The whole engine on several devices makes the tokens of one, whatever else is in the batch; and each updates its arena in place."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.buckets import Buckets, smallest
from muxjax.cache.layout import CacheLayout
from muxjax.device import batch
from muxjax.device.programs.sources import StepSource
from muxjax.device.step import step as run_step
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError
from muxjax.launch.build import build
from muxjax.models.sharding import OWN, SAME, Devices, partition
from muxjax.models.weights import dummy
from muxjax.specs.config import read_spec
from muxjax.units import show_bytes, show_count
from tests.device.test_greedy_goldens import Serving, assert_golden
from tests.device.test_step import SPEC, make_step
from tests.models.golden import FOLDER, make_model, read_golden

BLOCK_BYTES = 4096


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    names = (
        "llama2",
        "llama3_tied",
        "llama_biased",
        "qwen2_windowed",
        "qwen3",
        "granite",
        "smollm3",
        "olmo2",
        "phi3_longrope",
        "gemma3",
        "cohere",
        "cohere2",
        "starcoder2",
        "internlm2",
        "deepseek_v2",
        "deepseek_v3",
        "qwen2_moe",
        "granitemoeshared",
        "glm4_moe",
        "gpt_oss",
    )
    return {name: make_model(name, tmp_path_factory.mktemp("models") / name, read_golden(name).seed) for name in names}


@pytest.mark.parametrize(
    ("tp", "names"),
    [
        (2, ("llama_biased", "qwen2_windowed")),
        (2, ("llama3_tied",)),
        (2, ("qwen3",)),
        (4, ("llama2",)),
        (4, ("olmo2",)),
        (2, ("granite", "gemma3")),
        (2, ("smollm3", "phi3_longrope")),
        (2, ("cohere", "internlm2")),
        (2, ("cohere2", "starcoder2")),
        (2, ("deepseek_v2",)),
        (4, ("deepseek_v3",)),
        (2, ("qwen2_moe",)),
        (2, ("granitemoeshared",)),
        (2, ("glm4_moe", "gpt_oss")),
    ],
    ids=str,
)
def test_chunked_mixed_and_preempted_requests_make_the_tokens_of_transformers(folders, tp, names):
    """Biases of all kinds, windows, tied embeddings, q and k norms; one arena with room for little more than the longest request, and
    prompts of 17 and 40 tokens in chunks of 16. Norms over heads that lie on several devices; shares of fused tensors and of
    each expert."""
    wanted = [(name, number) for number in (2, 1, 0, 1) for name in names]
    own = [CacheLayout.of(read_spec(folders[name]).share(tp), element_bytes=4, block_bytes=BLOCK_BYTES) for name in names]
    tight_bytes = max(layout.blocks(128) for layout in own) * 5 // 4 * BLOCK_BYTES
    options = {"tensor_parallel_size": tp, "kv_cache_bytes": tight_bytes, "block_bytes": BLOCK_BYTES, "max_num_batched_tokens": 16}
    windowed = all(any(read_spec(folders[name]).windows) for name in names)  # what windows have passed goes back, and nobody makes room
    with Serving(folders, names, **options) as serving:
        for _ in range(5):  # on a busy machine, requests may come so late that none is beside others
            assert_golden(wanted, serving.answers(wanted))
            stats = serving.built.engine.stats()
            mixed, preempted = (sum(getattr(model, kind) for model in stats.models) for kind in ("mixed_steps", "preemptions"))
            if mixed and (windowed or preempted):
                break
        assert_reported_for_each_device(serving.built.report, tp, tight_bytes, own[0])
    assert stats.free_blocks == stats.total_blocks
    assert mixed > 0
    assert windowed or preempted > 0


def assert_reported_for_each_device(lines, tp: int, arena_bytes: int, layout: CacheLayout) -> None:
    """The arena of one device, in which a token takes the blocks of its share of the heads."""
    model, *_, cache, memory = lines
    blocks = arena_bytes // BLOCK_BYTES
    assert f"the whole cache {show_count(blocks // layout.column_blocks * layout.tokens_per_block)};" in model
    assert cache.startswith(f"cache: {blocks} head blocks of 4 KiB = {show_bytes(arena_bytes)} on each of {tp} devices, float32")
    assert memory.startswith(f"memory of each of {tp} devices: ")


@pytest.mark.parametrize(("name", "tp", "said"), [("llama3_tied", 4, "=2, got 4"), ("llama2", 3, "=4, got 3")])
def test_a_degree_that_does_not_divide_the_kv_heads_is_refused_before_weights_are_read(tmp_path, name, tp, said):
    (tmp_path / "config.json").write_text((FOLDER / name / "config.json").read_text())
    options = UnitOptions(models=(ModelOptions(name="m", path=tmp_path),), tensor_parallel_size=tp)
    with pytest.raises(ConfigError, match=f"m: tensor_parallel_size must be a divisor of num_key_value_heads.*{said}"):
        build(options, progress=False)


class Machine:
    """A model with random weights, its tables and an arena full of NaN, over some devices."""

    def __init__(self, spec, tp: int):
        self.spec, self.devices, self.params = spec, Devices.first(tp), dummy(spec, Devices.first(tp))
        self.layout = CacheLayout.of(spec.share(tp), element_bytes=4, block_bytes=512)
        self.buckets = Buckets.of(self.layout, slots=6, max_tokens=64, token_budget=128, prefill_rows=4, ragged=False)
        columns = self.layout.columns(spec.max_len)
        dims = (spec.layers, 6, self.layout.kv_heads, columns)
        ids = np.random.default_rng(0).permutation(int(np.prod(dims))).astype(np.int32).reshape(dims)
        self.table = jax.device_put(ids, self.devices.sharding(SAME))
        pool = jnp.full((ids.size, 128), jnp.nan, jnp.float32)
        self.blocks = self.devices.join([jax.device_put(pool, device) for device in self.devices.each], OWN)
        self.last = jax.device_put(jnp.zeros(6, jnp.int32), self.devices.sharding(SAME))

    def sample(self, tokens: list[int]) -> int:
        """The greedy token after a prompt."""
        step = make_step(chunks=[(3, 0, tokens)])
        shape = smallest(self.buckets.shapes(), self.buckets.size(step.starts, step.counts, step.decodes, self.layout))
        kept = {"spec": self.spec, "layout": self.layout, "shape": shape, "mesh": self.devices.mesh}
        sampled, *_, self.blocks, self.last = run_step(self.params, self.blocks, self.last, self.table, batch.pack(step, shape), **kept)
        return int(batch.unpack(np.asarray(sampled), step, shape)[0])


PROMPT = [5, 9, 33, 2, 60, 7, 7, 1, 12]


def test_a_vocabulary_that_does_not_go_round_makes_the_same_tokens():
    """Of 61 tokens, the last device holds 13 of 16."""
    spec = dataclasses.replace(SPEC, heads=4, kv_heads=4, vocab=61)
    four, one = ([machine.sample(PROMPT[:count]) for count in range(1, 10)] for machine in (Machine(spec, 4), Machine(spec, 1)))
    assert four == one and len(set(one)) > 3


@pytest.fixture(scope="module")
def one_and_two() -> tuple[Machine, Machine]:
    """The same model on one device and on two, for tests that leave it as it is."""
    return Machine(SPEC, 1), Machine(SPEC, 2)


@pytest.mark.parametrize("kind", ["qkv", "o", "gate_up", "down"])
def test_weights_on_the_wrong_device_would_be_noticed(kind, one_and_two, monkeypatch):
    """The parts of one kind, the other way round."""
    one, two = one_and_two
    layers, path = two.params["layers"], f"layers.{kind}"
    right = [shard.data for shard in layers[kind].addressable_shards]
    wrong = [jax.device_put(data, device) for data, device in zip(reversed(right), two.devices.each, strict=True)]
    expected = [one.sample(PROMPT[:count]) for count in (3, 6, 9)]
    assert [two.sample(PROMPT[:count]) for count in (3, 6, 9)] == expected
    monkeypatch.setitem(layers, kind, two.devices.join(wrong, partition(path, 3, SPEC)))
    assert [two.sample(PROMPT[:count]) for count in (3, 6, 9)] != expected


def lowered(tp: int, blocks: int, element_bytes: int = 4) -> jax.stages.Lowered:
    """A mixed step; with 1 byte a number, its cache is FP8."""
    devices, layout = Devices.first(tp), CacheLayout.of(SPEC.share(tp), element_bytes=element_bytes, block_bytes=512)
    shapes = Buckets.of(layout, slots=6, max_tokens=64, token_budget=128, prefill_rows=4, ragged=False).shapes()
    source = StepSource(
        spec=SPEC,
        layout=layout,
        shape=shapes[-1],
        slots=6,
        columns=layout.columns(64),
        blocks=blocks // tp,
        block_elements=128,
        kv_dtype="float32",
        tp=tp,
        tuned=True,
    )
    return source.lower(devices)


@pytest.mark.parametrize("element_bytes", [4, 1])
def test_each_device_updates_its_arena_in_place(element_bytes):
    """Temporaries of a device do not grow with its arena, and the arena's memory is the result's."""
    small, large = (lowered(2, 2 * blocks, element_bytes).compile().memory_analysis() for blocks in (1_000, 100_000))
    assert large.temp_size_in_bytes == small.temp_size_in_bytes
    assert large.alias_size_in_bytes - small.alias_size_in_bytes == 99_000 * 512


@pytest.mark.parametrize("tp", [1, 2])
def test_one_device_alone_runs_a_program_without_a_mesh(tp):
    text = lowered(tp, 1_000 * tp).as_text()
    assert {sign in text for sign in ("all_reduce", "all_gather", "manual_computation", "num_partitions = 2 ")} == {tp == 2}
