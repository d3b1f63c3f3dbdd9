"""Who is let in, in virtual time; and over HTTP, with what status."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError, RequestError
from muxjax.server.admission.admission import Admission, Admitted
from muxjax.server.admission.tenants import ANYONE, Tenant, digest
from muxjax.server.admission.throughput import Throughput, first_token_s, is_full, retry_after_s
from muxjax.server.background import in_background
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.service import Service
from muxjax.types import Finish, Output, Request, Sampling
from tests.fakes import FakeEngine
from tests.server.http.test_auth import ask
from tests.server.kit import served

ALICE, BOB = Tenant(name="alice"), Tenant(name="bob", weight=2)


class World:
    """An admission and its clock."""

    def __init__(self, unit: dict | None = None, **model):
        self.now_s, self.count, self.told = 0.0, 0, []
        a = ModelOptions(name="a", path="x", **model)
        b = ModelOptions(name="b", path="x")
        options = UnitOptions(models=(a, b), max_num_batched_tokens=100, **(unit or {}))
        self.admission = Admission(
            options,
            {"a": a, "b": b}.get,
            on_tokens=lambda tenant, name, count: self.told.append((tenant.name, name, count)),
            clock=lambda: self.now_s,
            day=lambda: self.now_s,
        )

    def admit(self, tenant: Tenant = ANYONE, *, tokens: int = 10, count: int = 1, model: str = "a", priority: int = 0) -> list[Admitted]:
        self.count += count
        requests = [
            Request(
                id=f"{self.count - i}",
                model=model,
                prompt=(1,) * tokens,
                sampling=Sampling(),
                arrival_s=self.now_s,
                tenant=tenant.name,
                priority=priority,
            )
            for i in range(count)
        ]
        return self.admission.admit(requests, tenant)

    def refusal(self, tenant: Tenant = ANYONE, **what) -> RequestError:
        with pytest.raises(RequestError) as refused:
            self.admit(tenant, **what)
        return refused.value

    def token(self, place: Admitted, finish: Finish | None = None) -> None:
        place.advance(Output("", 1, finish, self.now_s))


def test_a_full_queue_refuses_until_a_first_token_comes():
    world = World(max_num_queued_reqs=2)
    first, _ = world.admit(), world.admit()
    refused = world.refusal()
    assert (refused.status, refused.code) == (503, "queue_full")
    assert refused.retry_after_s is not None and refused.retry_after_s >= 1
    world.token(first[0])
    world.admit()
    assert world.refusal().code == "queue_full"


def test_who_leaves_before_the_first_token_makes_room_once():
    world = World(max_num_queued_reqs=1)
    (place,) = world.admit()
    place.leave()
    place.leave()
    world.admit()
    assert world.refusal().code == "queue_full"


def test_prompts_tokens_are_limited_too():
    world = World(max_num_queued_tokens=100)
    world.admit(tokens=60)
    assert world.refusal(tokens=41).code == "queue_full"
    world.admit(tokens=40)


def test_the_units_limit_is_for_all_models_together():
    world = World({"max_num_queued_reqs": 2}, max_num_queued_reqs=2)
    world.admit(model="b")
    world.admit(model="a")
    assert world.refusal(model="a").code == world.refusal(model="b").code == "queue_full"


def test_one_models_full_queue_is_no_others():
    world = World(max_num_queued_reqs=1)
    world.admit(model="a")
    assert world.refusal(model="a").code == "queue_full"
    world.admit(model="b")


def test_more_than_a_queue_ever_holds_is_the_clients_error():
    world = World(max_num_queued_reqs=4)
    assert (world.refusal(count=5).status, world.refusal(count=5).retry_after_s) == (400, None)
    assert len(world.admit(count=4)) == 4


def test_a_flooding_tenant_leaves_room_for_others():
    world = World(max_num_queued_reqs=8)
    world.admit(BOB)[0].leave()  # has been here
    for _ in range(4):
        world.admit(ALICE)
    assert world.refusal(ALICE).code == "queue_full"
    for _ in range(2):
        world.admit(BOB)
    assert world.refusal(BOB).code == "queue_full"
    world.admit(Tenant(name="carol"))


def test_a_tenant_that_is_alone_has_the_whole_queue():
    world = World(max_num_queued_reqs=8)
    for _ in range(8):
        world.admit(ALICE)
    assert world.refusal(ALICE).code == "queue_full"


@given(limit=st.integers(1, 100), owns=st.lists(st.integers(0, 50), min_size=1, max_size=6))
def test_a_newcomer_finds_room_wherever_the_others_kept_to_their_thresholds(limit, owns):
    filled = [0] * len(owns)
    for tenant, wanted in enumerate(owns):
        while filled[tenant] < wanted and not is_full(limit, sum(filled), filled[tenant], 1, shared=True):
            filled[tenant] += 1
    assert sum(filled) <= limit
    if limit >= 2 ** (len(owns) + 1):
        assert not is_full(limit, sum(filled), 0, 1, shared=True)


def test_limits_of_a_tenant_come_before_everything_and_a_refusal_by_the_queue_costs_nothing():
    world = World(max_num_queued_reqs=1)
    tenant = Tenant(name="alice", requests_per_minute=2)
    (place,) = world.admit(tenant)
    for _ in range(5):
        assert world.refusal(tenant).code == "queue_full"
    place.leave()
    world.admit(tenant)
    assert (world.refusal(tenant).status, world.refusal(tenant).code) == (429, "rate_limit_exceeded")


def test_every_token_of_prompt_and_answer_is_paid_once():
    world = World()
    (place,) = world.admit(ALICE, tokens=10)
    world.token(place)
    world.token(place, Finish.LENGTH)
    world.token(place)  # after its end: nothing
    assert world.told == [("alice", "a", 10), ("alice", "a", 1), ("alice", "a", 1)]


def backlog(world: World, *, rate: int, left: int = 30) -> list[Admitted]:
    """Leaves so many prompts of 10 tokens waiting, after `rate` of them had their first token in each of three seconds."""
    waiting = [world.admit()[0] for _ in range(left + 3 * rate)]
    for _ in range(3):
        world.now_s += 1.0
        for _ in range(rate):
            world.token(waiting.pop(0))
    return waiting


def test_the_time_to_come_again_follows_from_what_leaves_the_queue():
    slow, fast = World(max_num_queued_reqs=90), World(max_num_queued_reqs=90)
    for world, rate in ((slow, 1), (fast, 10)):
        backlog(world, rate=rate, left=60)
        while True:
            try:
                world.admit()
            except RequestError:
                break
    assert slow.refusal(count=20).retry_after_s == pytest.approx(20, rel=0.1)
    assert fast.refusal(count=20).retry_after_s == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("enforce, rate, refused", [(True, 1, True), (True, 10, False), (False, 1, False)])
def test_a_first_token_that_is_sure_to_come_late_is_refused_where_targets_are_enforced(enforce, rate, refused):
    """300 tokens wait; at 10 a second the target of 4 s is out of reach, at 100 a second it is not."""
    world = World(ttft_s=4.0, enforce=enforce)
    backlog(world, rate=rate)
    if refused:
        error = world.refusal()
        assert (error.status, error.code) == (503, "target_unreachable")
        assert error.retry_after_s is not None and 20 < error.retry_after_s < 40
    else:
        world.admit()


def test_only_what_is_sure_to_come_first_counts():
    world = World(ttft_s=4.0, enforce=True)
    backlog(world, rate=1)
    world.admit(priority=-100)
    world.admit(ALICE)
    assert world.refusal(priority=1).code == "target_unreachable"


def test_without_a_backlog_nothing_is_certain():
    world = World(ttft_s=0.001, enforce=True)
    for place in backlog(world, rate=1):
        place.leave()
    world.admit(tokens=1000)


def test_rates_of_long_ago_say_nothing():
    world = World(ttft_s=4.0, enforce=True)
    backlog(world, rate=1)
    world.now_s += 100
    world.admit()


@pytest.mark.parametrize("gap_s, refused", [(0.2, True), (0.05, False)])
def test_where_tokens_come_too_slowly_no_more_are_asked_for(gap_s, refused):
    world = World(tpot_s=0.1, enforce=True)
    (place,) = world.admit()
    for _ in range(60):
        world.now_s += gap_s
        world.token(place)
    if refused:
        assert world.refusal().code == "target_unreachable"
        world.token(place, Finish.LENGTH)
    world.admit()


def test_a_target_must_be_set_to_be_enforced():
    with pytest.raises(ConfigError, match="enforce"):
        ModelOptions(name="a", path="x", enforce=True)


def test_the_best_rate_is_that_of_the_fastest_second_of_work():
    seen = Throughput()
    for at_s, amount in ((1.0, 5), (2.0, 15), (3.0, 10), (4.0, 99)):
        seen.add(at_s, 1.0, amount)
        seen.add(at_s, 0.0, 5 if at_s == 2.0 else 0)
    assert (seen.best_per_s(4.0), seen.mean_per_s(4.0)) == (20, pytest.approx(35 / 3))
    assert (Throughput().best_per_s(0.0), Throughput().mean_per_s(0.0)) == (None, None)
    assert seen.best_per_s(100.0) is None


@given(ahead=st.integers(0, 10**6), own=st.integers(1, 10**5), rate=st.floats(1, 1e6), more=st.integers(0, 1000))
def test_a_first_token_comes_no_sooner_with_more_ahead_and_no_later_at_a_higher_rate(ahead, own, rate, more):
    found = first_token_s(ahead, own, rate)
    assert found * rate == pytest.approx(ahead + own)
    assert first_token_s(ahead + more, own, rate) >= found >= first_token_s(ahead, own, rate + more)
    assert first_token_s(ahead, own, None) == 0.0


@pytest.mark.parametrize("excess, rate, expected", [(10, 2.0, 5.0), (1, 100.0, 1.0), (1000, 2.0, 60.0), (5, None, 1.0), (5, 0.0, 60.0)])
def test_the_wait_that_is_told_is_within_reason(excess, rate, expected):
    assert retry_after_s(excess, rate) == expected


TENANTS = (
    Tenant(name="alice", api_keys=(digest("alice"),), requests_per_minute=2, metrics=True),
    Tenant(name="bob", api_keys=(digest("bob"),)),
)


@pytest.fixture
def door(tokenizer):
    """A server with two tenants and a queue of one, whose engine makes a token in 0.2 s."""
    model = ModelOptions(name="a", path="x", max_num_queued_reqs=1)
    engine = FakeEngine(["a"], turn_s=0.2)
    service = Service(engine, Catalog([served(tokenizer, "a")]), UnitOptions(models=(model,)))
    with in_background(service, HttpOptions(port=0, tenants=TENANTS)) as url:
        yield engine, url.removesuffix("/v1")


def complete(url: str, key: str, **fields):
    body = json.dumps({"model": "a", "prompt": "the", "max_tokens": 2, **fields}).encode()
    status, headers, answer = ask(f"{url}/v1/completions", key, method="POST", body=body)
    return status, headers, json.loads(answer)


def test_limits_have_their_status_and_say_when_to_come_again(door):
    engine, url = door
    assert complete(url, "alice", n=3)[0] == 400
    began_s = time.monotonic()
    assert [complete(url, "alice")[0] for _ in range(2)] == [200, 200]
    status, headers, answer = complete(url, "alice")
    assert status == 429 and 29 - (time.monotonic() - began_s) <= int(headers["Retry-After"]) <= 30
    assert (answer["error"]["type"], answer["error"]["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert complete(url, "bob")[0] == 200
    assert len(engine.submitted) == 3


def test_requests_carry_whose_they_are_and_their_priority(door):
    engine, url = door
    assert complete(url, "bob", priority=-3)[0] == 200
    assert [(request.tenant, request.priority) for request in engine.submitted] == [("bob", -3)]
    status, _, answer = complete(url, "bob", priority=101)
    assert (status, answer["error"]["param"]) == (400, "priority")


def test_only_tenants_that_want_it_are_named_in_metrics(door):
    _, url = door
    for key in ("alice", "bob"):
        complete(url, key)
    complete(url, "bob", n=3)
    lines = ask(f"{url}/metrics")[2].decode()
    assert 'muxjax_tenant_tokens_total{model_name="a",tenant="alice"}' in lines
    assert "bob" not in lines
    assert 'vllm:admission_rejections_total{model_name="a",reason="queue_too_small"} 1.0' in lines
