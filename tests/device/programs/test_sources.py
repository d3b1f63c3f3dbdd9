"""What programs are made of: small ones of a CPU are compiled in a hurry, and a step may be made again within a share of a GPU."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.buckets import BatchShape
from muxjax.cache.layout import CacheLayout
from muxjax.device.programs.compiler import Compiler
from muxjax.device.programs.sources import RecountSource, RowsSource, StepSource
from muxjax.model_spec import ModelSpec
from muxjax.models.sharding import Devices

SPEC = ModelSpec(vocab=64, width=32, layers=2, heads=4, kv_heads=2, head_dim=16, ffn=48, max_len=64, windows=(None, 5), dtype="float32")
DEVICES = Devices((jax.devices("cpu")[0],))


def rows(vocab: int, name: str = "tell") -> RowsSource:
    return RowsSource(name=name, rows=8, vocab=vocab, slots=2, tp=1)


def test_only_small_programs_are_compiled_in_a_hurry_and_only_for_a_cpu():
    assert rows(512).options("cpu")
    assert not rows(128_256).options("cpu")
    assert rows(512).options("gpu") == rows(128_256).options("gpu")
    assert RecountSource(vocab=512, slots=2, tp=1).options("cpu") == rows(512).options("cpu")


def test_a_step_within_a_share_is_a_program_of_its_own_and_a_cpu_computes_it_as_any_other():
    layout = CacheLayout.of(SPEC, element_bytes=4, block_bytes=512)
    shape = BatchShape(columns=4, tokens=24, decode_rows=8, prefill_rows=2)
    sizes = {"slots": 4, "columns": 4, "blocks": 64, "block_elements": 128, "kv_dtype": "float32", "tp": 1, "tuned": True}
    whole = StepSource(spec=SPEC, layout=layout, shape=shape, **sizes)
    share = replace(whole, shape=replace(shape, sm_share=112))

    assert repr(share) != repr(whole)
    assert share.lower(DEVICES).as_text() == whole.lower(DEVICES).as_text()


def test_a_hurried_program_tells_the_same_log_probabilities():
    source = rows(512)
    _, hurried = Compiler(devices=DEVICES).compile(source)
    careful = source.lower(DEVICES).compile()
    logits_BV = jax.random.normal(jax.random.key(3), (8, 512)) * 4
    tokens_B = jnp.arange(8, dtype=jnp.int32)

    for own, other in zip(hurried(logits_BV, tokens_B), careful(logits_BV, tokens_B), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-6, atol=1e-6)
