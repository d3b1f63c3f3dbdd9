import time

from hypothesis import given
from hypothesis import strategies as st

from muxjax.server.telemetry.recent_activity import RecentActivity, Refusal
from tests.server.telemetry.test_trace import job, request


def test_memory_is_bounded_and_the_last_jobs_are_kept():
    recent = RecentActivity()
    for i in range(10_000):
        recent.job(job(rows=i + 1))
    kept = recent.jobs(0, 10**9)

    assert len(kept) == 4096
    assert [record.rows for _, record in recent.jobs(0, 3)] == [9998, 9999, 10_000]
    assert recent.jobs(10_000, 3) == []
    for i in range(2000):
        recent.request(request(end_s=time.monotonic(), tokens=i))
        recent.refusal(Refusal(time.monotonic(), 400 + i % 2, "x", "/v1"))
    assert recent.latency("a").requests == 512
    assert [record.tokens for record in recent.requests()] == list(range(1999, 1949, -1))
    assert len(recent.refusals()) == 50 and recent.refusals()[0].status == 401
    assert recent.refused() == {400: 1000, 401: 1000}


def test_latencies_are_of_the_last_minute_alone():
    recent = RecentActivity()
    recent.request(request(end_s=100.0, arrival_s=0.0, first_s=50.0))
    recent.request(request(end_s=150.0, arrival_s=148.0, first_s=149.0, last_s=150.0, tokens=3))

    assert recent.latency("a", now_s=155.0).requests == 2
    assert recent.latency("a", now_s=155.0).ttft_s == (1.0, 50.0)
    late = recent.latency("a", now_s=161.0)
    assert (late.requests, late.ttft_s, late.tpot_s) == (1, (1.0, 1.0), (0.5, 0.5))
    assert recent.latency("nobody").ttft_s is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300))
def test_half_of_the_requests_and_99_of_100_are_within_what_is_told(values):
    recent = RecentActivity()
    for value in values:
        recent.request(request(arrival_s=0.0, first_s=value, end_s=0.0))
    half, most = recent.latency("a", now_s=0.0).ttft_s

    assert sum(value <= half for value in values) >= len(values) / 2 > sum(value < half for value in values)
    assert sum(value <= most for value in values) >= 0.99 * len(values) > sum(value < most for value in values)
