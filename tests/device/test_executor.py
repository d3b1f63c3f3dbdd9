"""The device executor behind a real engine loop: after the warm-up nothing is compiled any more."""

import numpy as np

from muxjax.buckets import Buckets
from muxjax.cache.layout import CacheLayout
from muxjax.device.executor import DeviceExecutor
from muxjax.device.lanes.arena import OwnArenas
from muxjax.device.model import DeviceModel
from muxjax.device.paged_memory import blocks_shape
from muxjax.device.step import draw, step, update_table
from muxjax.engine.loop import replay
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.unit import Unit
from muxjax.models import weights
from muxjax.models.sharding import OWN, Devices
from muxjax.scheduler.policies import by_name
from muxjax.types import Request, Sampling
from tests.device.test_step import LAYOUT, SPEC
from tests.fake_device import FakeClock
from tests.programs import kept_programs

SLOTS = 4
BLOCKS = 120


def layout_of(tp: int) -> CacheLayout:
    return CacheLayout.of(SPEC.share(tp), element_bytes=4, block_bytes=LAYOUT.block_bytes)


def make_executor(tp: int, **options) -> DeviceExecutor:
    """Two models on tp devices."""
    layout, devices = layout_of(tp), Devices.first(tp)
    buckets = Buckets.of(layout, slots=SLOTS, max_tokens=SPEC.max_len, token_budget=24, prefill_rows=2, ragged=False)
    models = {
        name: DeviceModel.empty(
            SPEC,
            weights.dummy(SPEC, devices, seed=seed),
            layout=layout,
            buckets=buckets,
            slots=SLOTS,
            max_tokens=SPEC.max_len,
            devices=devices,
        )
        for seed, name in enumerate("ab")
    }
    pool = blocks_shape(BLOCKS, layout.block_bytes, np.dtype(np.float32), devices.each[0])
    for model in models.values():
        needs = model.needs.of(model.shapes, pool)
        assert sum(1 for _ in model.compile(kept_programs(tp), needs)) == len(needs) > len(buckets.shapes())
    executor = DeviceExecutor(models, OwnArenas(devices.joined(pool, OWN)), **options)
    executor.warm_up()
    return executor


def run(executor: DeviceExecutor, tp: int, look_ahead: int) -> dict[str, list[int]]:
    configs = [ModelConfig(name=name, layout=layout_of(tp), slots=SLOTS, max_tokens=SPEC.max_len) for name in "ab"]
    unit = Unit(configs, total_blocks=BLOCKS, token_budget=24, max_rows=2, look_ahead=look_ahead)
    sampling = [Sampling(temperature=t, max_tokens=20, seed=7) for t in (0.0, 1.0, 0.0)]
    requests = [
        Request(id=str(i), model="ab"[i % 2], prompt=tuple(range(i, 3 * i + 1)), sampling=sampling[i % 3], arrival_s=0.0) for i in range(12)
    ]
    tokens: dict[str, list[int]] = {}
    for outputs in replay(unit, by_name("adbs"), executor, FakeClock(), requests):
        for output in outputs:
            tokens.setdefault(output.request_id, []).append(output.token)
    return tokens


def test_nothing_is_compiled_after_the_warm_up_and_neither_look_ahead_nor_a_second_device_changes_a_token():
    """Of greedy requests and of random ones."""
    executors = {tp: make_executor(tp) for tp in (1, 2)}
    compiled = step._cache_size(), update_table._cache_size(), draw._cache_size()
    one, two, of_two_devices = (run(executors[tp], tp, look_ahead) for tp, look_ahead in ((1, 1), (1, 2), (2, 2)))
    assert one == two == of_two_devices and {len(tokens) for tokens in one.values()} == {20}
    assert (step._cache_size(), update_table._cache_size(), draw._cache_size()) == compiled
