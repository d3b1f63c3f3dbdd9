"""Token buckets and budgets in virtual time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.errors import RequestError
from muxjax.server.admission.rate_limits import DAY_S, Allowance
from muxjax.server.admission.tenants import Tenant

MIDNIGHT_S = 20_000 * DAY_S


def refusal(allowance: Allowance, now_s: float) -> RequestError | None:
    try:
        allowance.check(now_s)
    except RequestError as error:
        return error
    return None


def test_a_minutes_requests_may_come_at_once_and_the_next_waits_for_its_share():
    allowance = Allowance(Tenant(name="a", requests_per_minute=3), 0.0)
    for _ in range(3):
        assert refusal(allowance, 0.0) is None
        allowance.take_request(0.0)
    refused = refusal(allowance, 0.0)
    assert refused is not None
    assert (refused.status, refused.code, refused.retry_after_s) == (429, "rate_limit_exceeded", pytest.approx(20.0))
    assert refusal(allowance, 19.9) is not None
    assert refusal(allowance, 20.1) is None


def test_tokens_may_be_overdrawn_and_are_paid_back():
    allowance = Allowance(Tenant(name="a", tokens_per_minute=60), 0.0)
    allowance.take_tokens(0.0, 100)
    refused = refusal(allowance, 0.0)
    assert refused is not None and refused.retry_after_s == pytest.approx(41.0)
    assert refusal(allowance, 40.9) is not None
    assert refusal(allowance, 41.1) is None


def test_a_days_budget_comes_back_at_midnight():
    allowance = Allowance(Tenant(name="a", tokens_per_day=10), MIDNIGHT_S + 100)
    allowance.take_tokens(MIDNIGHT_S + 100, 9)
    assert refusal(allowance, MIDNIGHT_S + 100) is None
    allowance.take_tokens(MIDNIGHT_S + 100, 1)
    refused = refusal(allowance, MIDNIGHT_S + 200)
    assert refused is not None
    assert (refused.status, refused.code, refused.retry_after_s) == (429, "insufficient_quota", DAY_S - 200)
    assert refusal(allowance, MIDNIGHT_S + DAY_S - 1) is not None
    assert refusal(allowance, MIDNIGHT_S + DAY_S) is None


def test_without_limits_nothing_is_refused():
    allowance = Allowance(Tenant(name="a"), 0.0)
    allowance.take_request(0.0)
    allowance.take_tokens(0.0, 10**9)
    assert refusal(allowance, 0.0) is None


def test_a_clock_that_goes_back_gives_nothing():
    allowance = Allowance(Tenant(name="a", requests_per_minute=1), 100.0)
    allowance.take_request(100.0)
    assert refusal(allowance, 0.0) is not None
    assert refusal(allowance, 59.0) is not None
    assert refusal(allowance, 61.0) is None


@given(
    per_minute=st.integers(1, 600),
    pauses=st.lists(st.floats(0, 30), max_size=200),
)
def test_no_client_gets_more_than_its_rate_and_one_burst(per_minute, pauses):
    allowance, now_s, taken = Allowance(Tenant(name="a", requests_per_minute=per_minute), 0.0), 0.0, 0
    for pause_s in pauses:
        now_s += pause_s
        if refusal(allowance, now_s) is None:
            allowance.take_request(now_s)
            taken += 1
    assert taken <= per_minute * (1 + now_s / 60) + 1e-6


@given(per_minute=st.integers(1, 600), taken=st.integers(1, 700), at_s=st.floats(0, 1e6))
def test_who_comes_when_told_gets_in(per_minute, taken, at_s):
    """A wait that is a second short does not."""
    allowance = Allowance(Tenant(name="a", tokens_per_minute=per_minute), at_s)
    allowance.take_tokens(at_s, taken)
    refused = refusal(allowance, at_s)
    if refused is not None:
        assert refusal(allowance, at_s + refused.retry_after_s * 0.9) is not None
        assert refusal(allowance, at_s + refused.retry_after_s + 1e-3) is None
