"""An arena of zeros takes memory of the host as it is written, and no more."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from muxjax.device.host_memory import drop_zeros, trim
from muxjax.device.lanes.arena import OwnArenas

MIB = 2**20
WHOLE = jax.ShapeDtypeStruct((256, MIB // 4), jnp.float32, sharding=jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0]))
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and madvise is Linux's")


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


@on_linux
def test_an_arena_of_zeros_takes_no_memory_until_it_is_written():
    before = resident_bytes()
    arena = OwnArenas(WHOLE).view(0)
    assert resident_bytes() - before < 64 * MIB
    written = jax.jit(lambda arena: arena.at[:64].set(1.0), donate_argnums=0)(arena)
    jax.block_until_ready(written)
    assert 64 * MIB <= resident_bytes() - before < 192 * MIB
    assert float(written.sum()) == 64 * MIB // 4


@on_linux
def test_zeros_that_nobody_drops_take_all_of_it():
    """The near-miss: without it the test above would hold of nothing."""
    before = resident_bytes()
    kept = jax.block_until_ready(jnp.zeros(WHOLE.shape, WHOLE.dtype, device=WHOLE.sharding))
    assert resident_bytes() - before > 128 * MIB
    assert drop_zeros(kept) is kept
    assert resident_bytes() - before < 64 * MIB
    assert not kept.any()


def test_an_array_smaller_than_a_page_is_left_alone():
    small = jax.block_until_ready(jnp.zeros(3))
    assert list(drop_zeros(small)) == [0, 0, 0]


def test_freed_memory_is_given_back_without_harm():
    held = [bytes(100_000) for _ in range(100)]
    trim()
    assert all(not any(one[:10]) for one in held)
