"""Small programs of a CPU are compiled in a hurry, and what they compute stays the same."""

import jax
import jax.numpy as jnp
import numpy as np

from muxjax.device.programs.compiler import Compiler
from muxjax.device.programs.sources import RecountSource, RowsSource
from muxjax.models.sharding import Devices

DEVICES = Devices((jax.devices("cpu")[0],))


def rows(vocab: int, name: str = "tell") -> RowsSource:
    return RowsSource(name=name, rows=8, vocab=vocab, slots=2, tp=1)


def test_only_small_programs_are_compiled_in_a_hurry_and_only_for_a_cpu():
    assert rows(512).options("cpu")
    assert not rows(128_256).options("cpu")
    assert rows(512).options("gpu") == rows(128_256).options("gpu")
    assert RecountSource(vocab=512, slots=2, tp=1).options("cpu") == rows(512).options("cpu")


def test_a_hurried_program_tells_the_same_log_probabilities():
    source = rows(512)
    _, hurried = Compiler(devices=DEVICES).compile(source)
    careful = source.lower(DEVICES).compile()
    logits_BV = jax.random.normal(jax.random.key(3), (8, 512)) * 4
    tokens_B = jnp.arange(8, dtype=jnp.int32)

    for own, other in zip(hurried(logits_BV, tokens_B), careful(logits_BV, tokens_B), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-6, atol=1e-6)
