"""Metrics that have something to tell under every name."""

from muxjax.engine.device_control import ProgramProgress
from muxjax.server.telemetry.metrics import Metrics
from muxjax.types import Finish, Request, Sampling
from tests.fakes import FakeEngine
from tests.server.telemetry.test_trace import job


def filled_metrics() -> Metrics:
    """Of a model that has answered a request within its targets, and refused one."""
    metrics = Metrics(FakeEngine(["a"]).unit_stats, lambda: {"a": ProgramProgress(ready=3, all=9, failed=())})
    for phase in ("prefill", "decode", "mixed"):
        metrics.job(job(phase=phase))
    metrics.rejected.labels("a", "queue_full").inc()
    metrics.tenant_tokens.labels("alice", "a").inc()
    asked = Request(id="r", model="a", prompt=(1,), sampling=Sampling(max_tokens=3), arrival_s=0.0)
    meter = metrics.request(asked, lambda record: metrics.judge(record, ttft_s=1.0, tpot_s=1.0))
    meter.started(0.1)
    meter.tokens([0.2])
    meter.tokens([0.3])
    meter.end(Finish.STOP, 0.3)
    return metrics
