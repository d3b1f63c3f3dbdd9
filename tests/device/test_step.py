"""The jitted step: what it reads of a packed batch, what it writes, and that it copies no arena."""

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.buckets import Buckets, smallest
from muxjax.cache.layout import CacheLayout
from muxjax.cache.table import TableDelta
from muxjax.device import batch
from muxjax.device.step import step as run_step
from muxjax.device.step import update_table
from muxjax.engine.executor import SAMPLED, SAMPLING, Step, sampling_row
from muxjax.model_spec import ModelSpec
from muxjax.models import decoder
from muxjax.models.attention import DenseMemory
from muxjax.pallas.kernels import REFERENCE, Kernels
from muxjax.types import Sampling

SPEC = ModelSpec(vocab=64, width=32, layers=2, heads=4, kv_heads=2, head_dim=16, ffn=48, max_len=64, windows=(None, 5), dtype="float32")
LAYOUT = CacheLayout.of(SPEC, element_bytes=4, block_bytes=512)
SLOTS = 6
BUCKETS = Buckets.of(LAYOUT, slots=SLOTS, max_tokens=SPEC.max_len, token_budget=128, prefill_rows=4, ragged=False)


Row = tuple[int, int, list[int]]
"""Slot, start, tokens."""


def make_step(*, decodes: Sequence[Row] = (), chunks: Sequence[Row] = (), seed: int = 0) -> Step:
    """Greedy rows."""
    rows = [*decodes, *chunks]
    sampling = np.array([sampling_row(Sampling(temperature=0.0, seed=seed - slot)) for slot in range(SLOTS)], SAMPLING)
    slots = np.array([slot for slot, _, _ in rows], np.int32)
    return Step(
        id=1,
        model="m",
        decodes=len(decodes),
        slots=slots,
        starts=np.array([start for _, start, _ in rows], np.int32),
        counts=np.array([len(tokens) for _, _, tokens in rows], np.int32),
        tokens=np.array([token for _, _, tokens in rows for token in tokens], np.int32),
        sampling=sampling[slots],
        delta=TableDelta(slots[:0], slots[:0], np.zeros((0, 2, 2), np.int32)),
    )


class Machine:
    """A model, its tables with scattered blocks for every slot, and an arena full of NaN."""

    def __init__(self):
        self.params = jax.tree.map(lambda leaf: 4 * leaf, decoder.init_params(SPEC, jax.random.key(0)))
        columns = LAYOUT.columns(SPEC.max_len)
        ids = np.random.default_rng(0).permutation(SLOTS * columns * LAYOUT.column_blocks).astype(np.int32)
        slots, places = np.divmod(np.arange(SLOTS * columns, dtype=np.int32), columns)
        delta = TableDelta(slots, places, ids.reshape(-1, LAYOUT.layers, LAYOUT.kv_heads))
        empty = jnp.zeros((LAYOUT.layers, SLOTS, LAYOUT.kv_heads, columns), jnp.int32)
        self.table = update_table(empty, batch.pack_delta(delta, batch.delta_entries(len(slots))))
        self.blocks = jnp.full((len(ids), LAYOUT.block_bytes // 4), jnp.nan, jnp.float32)
        self.last = jnp.zeros(SLOTS, jnp.int32)

    def run(self, step: Step, kernels: Kernels = REFERENCE, buckets: Buckets = BUCKETS) -> list[int]:
        shape = smallest(buckets.shapes(), buckets.size(step.starts, step.counts, step.decodes, LAYOUT))
        arrays = self.params, self.blocks, self.last, self.table, batch.pack(step, shape)
        arrays = run_step(*arrays, spec=SPEC, layout=LAYOUT, shape=shape, kernels=kernels)
        self.blocks, self.last = arrays.blocks_NE, arrays.last_S
        return batch.unpack(np.asarray(arrays.tokens_B), step, shape).tolist()

    def greedy(self, tokens: list[int]) -> int:
        padded = jnp.array(tokens + [0] * (SPEC.max_len - len(tokens)))
        return int(dense_logits(self.params, padded)[len(tokens) - 1].argmax())


@jax.jit
def dense_logits(params, tokens):
    hidden, _ = decoder.forward(SPEC, params, tokens, jnp.arange(len(tokens)), DenseMemory())
    return decoder.logits(SPEC, params, hidden)


PROMPTS = {4: [5, 9, 33, 2, 60, 7, 7, 1, 12], 1: [3], 2: list(range(40, 60))}


def test_prefill_in_chunks_and_decode_from_the_tokens_on_the_device_equal_the_dense_model():
    machine = Machine()
    machine.run(make_step(chunks=[(4, 0, PROMPTS[4][:5]), (2, 0, PROMPTS[2][:13])]))
    sampled = machine.run(make_step(chunks=[(4, 5, PROMPTS[4][5:]), (1, 0, PROMPTS[1]), (2, 13, PROMPTS[2][13:])]))
    texts = {slot: list(prompt) for slot, prompt in PROMPTS.items()}
    for _ in range(6):
        for (slot, text), token in zip(texts.items(), sampled, strict=True):
            assert token == machine.greedy(text), f"slot {slot} after {len(text)} tokens"
            text.append(token)
        sampled = machine.run(make_step(decodes=[(slot, len(text) - 1, [SAMPLED]) for slot, text in texts.items()]))


@pytest.mark.parametrize("start", [13, 6])
@pytest.mark.parametrize("most", [SLOTS, 32])
def test_a_mixed_step_makes_the_tokens_of_its_parts(start, most):
    """A decode, a new prompt and the rest of another at once; the rest told to begin elsewhere is noticed. Of 32 rows that might decode
    one does, and prompts lie in the places of the others."""
    machine = Machine()
    first, _ = machine.run(make_step(chunks=[(4, 0, PROMPTS[4]), (2, 0, PROMPTS[2][:13])]))
    step = make_step(decodes=[(4, len(PROMPTS[4]), [SAMPLED])], chunks=[(1, 0, PROMPTS[1]), (2, start, PROMPTS[2][13:])])
    decoded, prompted, continued = machine.run(step, buckets=replace(BUCKETS, mixed_rows=(most,)))
    assert [decoded, prompted] == [machine.greedy([*PROMPTS[4], first]), machine.greedy(PROMPTS[1])]
    assert (continued == machine.greedy(PROMPTS[2])) == (start == 13)


@pytest.mark.parametrize("wrong", [None, "qkv", "o", "gate_up", "down"])
def test_every_matrix_of_a_layer_is_multiplied_by_the_product_that_a_step_is_given(wrong):
    """One that forgets the sign of a kind's is noticed."""
    shapes = {kind: leaf.shape[1:] for kind, leaf in decoder.param_shapes(SPEC)["layers"].items()}
    multiplied = []

    def product(x_TI, w_IO, scale_JO=None, zero_JO=None):
        assert scale_JO is None and zero_JO is None  # of a model that is not quantised
        multiplied.append(w_IO.shape)
        return -(x_TI @ w_IO) if wrong and w_IO.shape == shapes[wrong] else x_TI @ w_IO

    machine = Machine()
    tokens = machine.run(make_step(chunks=[(4, 0, PROMPTS[4]), (2, 0, PROMPTS[2])]), REFERENCE._replace(product=product))
    layer = [shapes[kind] for kind in ("qkv", "o", "gate_up", "down")]
    assert multiplied == layer * 2  # each layer has a window of its own, and is traced for it
    assert (tokens == [machine.greedy(PROMPTS[slot]) for slot in (4, 2)]) == (wrong is None)


@pytest.mark.parametrize("wrong", [(4, 8, [SAMPLED]), (1, 9, [SAMPLED]), (4, 9, [2])])
def test_a_wrong_position_slot_or_token_is_noticed(wrong):
    machine = Machine()
    sampled = machine.run(make_step(chunks=[(4, 0, PROMPTS[4])]))
    right = machine.greedy([*PROMPTS[4], *sampled])
    blocks, last = jnp.copy(machine.blocks), jnp.copy(machine.last)
    assert machine.run(make_step(decodes=[(4, 9, [SAMPLED])])) == [right]
    machine.blocks, machine.last = blocks, last
    assert machine.run(make_step(decodes=[wrong])) != [right]


def test_an_empty_step_changes_nothing():
    machine = Machine()
    machine.run(make_step(chunks=[(4, 0, PROMPTS[4])]))
    for shape in BUCKETS.shapes():
        before = np.array(machine.blocks), np.array(machine.last)
        _, _, _, machine.blocks, machine.last = run_step(
            machine.params, machine.blocks, machine.last, machine.table, batch.empty(shape), spec=SPEC, layout=LAYOUT, shape=shape
        )
        np.testing.assert_array_equal(before[0], machine.blocks)
        np.testing.assert_array_equal(before[1], machine.last)


def test_steps_of_one_bucket_are_compiled_once():
    machine = Machine()
    run_step.clear_cache()
    for count in (1, 3, 4):
        machine.run(make_step(decodes=[(slot, 3, [1]) for slot in range(count)]))
    assert run_step._cache_size() == 1
    machine.run(make_step(chunks=[(0, 0, [1, 2])]))
    assert run_step._cache_size() == 2


@pytest.mark.parametrize(
    "kind",
    [
        lambda shape: not shape.prefill_rows,
        lambda shape: shape.prefill_rows,
    ],
)
def test_the_arena_is_updated_in_place(kind):
    """Temporaries do not grow with the arena, and the arena's memory is the result's."""

    def compiled(blocks: int):
        shape = next(shape for shape in BUCKETS.shapes() if kind(shape))
        arrays = [((blocks, LAYOUT.block_bytes // 4), jnp.float32), ((SLOTS,), jnp.int32)]
        arrays += [((LAYOUT.layers, SLOTS, LAYOUT.kv_heads, LAYOUT.columns(SPEC.max_len)), jnp.int32), ((batch.words(shape),), jnp.int32)]
        arguments = [jax.ShapeDtypeStruct(*array) for array in arrays]
        return run_step.lower(decoder.param_shapes(SPEC), *arguments, spec=SPEC, layout=LAYOUT, shape=shape).compile().memory_analysis()

    small, large = compiled(1_000), compiled(100_000)
    assert large.temp_size_in_bytes == small.temp_size_in_bytes
    assert large.alias_size_in_bytes - small.alias_size_in_bytes == 99_000 * LAYOUT.block_bytes
