"""What the metrics say of a unit's cache, which they read when somebody looks."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from muxjax.cache.layout import CacheLayout
from muxjax.engine.device_control import ProgramProgress
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.unit import Unit
from muxjax.scheduler.adbs import adbs
from muxjax.server.telemetry.metrics import Metrics
from muxjax.types import Request, Sampling
from tests.engine.speculation.kit import LARGEST, WIDE, speculating_unit
from tests.engine.test_unit import run
from tests.fake_device import FakeClock, FakeDevice

PROGRAMS = ProgramProgress(ready=3, all=9, failed=("a step of 8 tokens in 8 rows: ValueError",))
LAYOUT = CacheLayout(windows=(None,), kv_heads=1, head_dim=32, element_bytes=4, block_bytes=512)  # 2 tokens a column of 1


@pytest.fixture(scope="module")
def samples() -> dict[tuple[str, str], float]:
    """Of two requests for a model, which share 6 of their 7 tokens, and of one that needs the room."""
    config = ModelConfig(name="m", layout=LAYOUT, slots=2, max_tokens=20)
    unit, clock = Unit([config], total_blocks=10, token_budget=16), FakeClock()
    device, prompts = FakeDevice({"m": LAYOUT}, clock), [(1, 2, 3, 4, 5, 6, last) for last in (7, 8)] + [(9,) * 18]
    for i, prompt in enumerate(prompts):
        request = Request(id=str(i), model="m", prompt=prompt, sampling=Sampling(max_tokens=1), arrival_s=float(i))
        run(unit, adbs, device, clock, [request], {})
    families = text_string_to_metric_families(Metrics(lambda: {"0": unit.stats()}, lambda: {"m": PROGRAMS}).exposition().decode())
    found = [sample for family in families for sample in family.samples]
    return {(sample.name, sample.labels.get("state", "")): sample.value for sample in found}


def test_prefix_queries_and_hits_count_prompt_tokens(samples):
    assert samples["vllm:prefix_cache_queries_total", ""] == 7 + 7 + 18
    assert samples["vllm:prefix_cache_hits_total", ""] == 6


def test_blocks_are_held_cached_or_free(samples):
    assert [samples["muxjax_kv_blocks", state] for state in ("held", "cached", "free")] == [0, 10, 0]
    assert samples["muxjax_prefix_cache_evicted_blocks_total", ""] == 2


def test_sizes_of_steps_are_ready_missing_or_failed(samples):
    assert [samples["muxjax_step_sizes", state] for state in ("ready", "missing", "failed")] == [3, 5, 1]


def test_drafts_are_counted_by_vllms_names():
    unit, clock = speculating_unit([True, True, False], total_blocks=4 * LARGEST), FakeClock()
    request = Request(id="r", model="a", prompt=(1, 2), sampling=Sampling(max_tokens=30), arrival_s=0.0)
    run(unit, adbs, FakeDevice(WIDE, clock), clock, [request], {})
    families = text_string_to_metric_families(Metrics(lambda: {"0": unit.stats()}).exposition().decode())
    counted = {sample.name: sample.value for family in families for sample in family.samples if sample.labels.get("model_name") == "a"}
    drafts, tokens, accepted = (counted[f"vllm:spec_decode_num_{what}_total"] for what in ("drafts", "draft_tokens", "accepted_tokens"))
    assert 0 < drafts <= accepted < tokens
    assert accepted + unit.stats().models[0].decode_steps == 29
