"""The device executor behind a real engine loop: after the warm-up nothing is compiled any more."""

import jax
import numpy as np
import pytest

from muxjax.cache.store import make_blocks
from muxjax.engine.batch import Buckets
from muxjax.engine.device import DeviceExecutor, Program
from muxjax.engine.loop import replay
from muxjax.engine.resident import Member
from muxjax.engine.step import step, update_table
from muxjax.engine.unit import Unit
from muxjax.models import weights
from muxjax.models.sharding import Devices
from muxjax.pallas.kernels import REFERENCE
from muxjax.scheduler.policies import by_name
from muxjax.types import ModelSpec, Request, Sampling
from tests.engine.test_step import LAYOUT, SPEC
from tests.fake_device import FakeClock

SLOTS = 4
BLOCKS = 120


def make_program(spec: ModelSpec, device: jax.Device) -> Program:
    buckets = Buckets.of(LAYOUT, slots=SLOTS, max_tokens=spec.max_len, token_budget=24, prefill_rows=2, ragged=False)
    devices = Devices((device,))
    return Program.of(spec, LAYOUT, REFERENCE, buckets, weights.dummy(spec, devices), slots=SLOTS, max_tokens=spec.max_len, devices=devices)


@pytest.fixture
def executor():
    device = jax.devices()[0]
    programs = {name: make_program(SPEC, device) for name in "ab"}
    blocks = make_blocks(BLOCKS, block_bytes=LAYOUT.block_bytes, dtype=np.dtype(np.float32), device=device)
    for program in programs.values():
        assert sum(1 for _ in program.compile(blocks)) == program.program_count > len(program.buckets.shapes())
    executor = DeviceExecutor(programs, blocks)
    executor.warm_up()
    return executor


def run(executor, look_ahead: int) -> dict[str, list[int]]:
    members = [Member(name=name, layout=LAYOUT, slots=SLOTS, max_tokens=SPEC.max_len, quota_blocks=BLOCKS, floor_blocks=0) for name in "ab"]
    unit = Unit(members, total_blocks=BLOCKS, token_budget=24, max_rows=2, look_ahead=look_ahead)
    sampling = [Sampling(temperature=t, max_tokens=20, seed=7) for t in (0.0, 1.0, 0.0)]
    requests = [
        Request(id=str(i), model="ab"[i % 2], prompt=tuple(range(i, 3 * i + 1)), sampling=sampling[i % 3], arrival_s=0.0) for i in range(12)
    ]
    tokens: dict[str, list[int]] = {}
    for outputs in replay(unit, by_name("adbs"), executor, FakeClock(), requests):
        for output in outputs:
            tokens.setdefault(output.request_id, []).append(output.token)
    return tokens


def test_nothing_is_compiled_after_the_warm_up_and_look_ahead_changes_no_token(executor):
    compiled = step._cache_size(), update_table._cache_size()
    one, two = run(executor, look_ahead=1), run(executor, look_ahead=2)
    assert one == two and {len(tokens) for tokens in one.values()} == {20}
    assert (step._cache_size(), update_table._cache_size()) == compiled
