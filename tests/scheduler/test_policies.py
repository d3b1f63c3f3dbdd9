"""What each policy plans for pictures that one can check by eye."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.errors import ConfigError
from muxjax.scheduler import fit
from muxjax.scheduler.adbs import adbs
from muxjax.scheduler.fcfs import fcfs
from muxjax.scheduler.policies import BY_NAME, by_name
from muxjax.scheduler.round_robin import round_robin
from muxjax.scheduler.view import TOKEN_GRAIN, Chunk, Job, ModelView, Pending, StepPlan
from muxjax.scheduler.within_quotas import PERIOD_S
from tests.scheduler.pictures import decode_of, decoding, model, prefill_of, running, stuck, view, waits


def test_temporal_multiplexing_is_first_come_first_served():
    assert by_name("temporal") is BY_NAME["fcfs"]


def test_an_unknown_policy_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"policy must be one of .*fcfs.*, got 'lifo'"):
        by_name("lifo")


@pytest.mark.parametrize("policy", BY_NAME.values())
def test_nothing_to_do_is_an_empty_plan(policy):
    assert policy(view(model("a"), model("b"))) == StepPlan()


def test_fcfs_serves_the_oldest_request_whoever_has_been_served_least():
    picture = view(decoding("a", 3, oldest_s=5.0), decoding("b", 2, oldest_s=4.0, last_decode=9))

    assert fcfs(picture).jobs == (decode_of("b"),)


def test_fcfs_turns_to_the_next_oldest_when_the_oldest_can_do_nothing():
    picture = view(waits("a", blocks=900, arrival_s=1.0), decoding("b", 2, oldest_s=3.0), free=100)

    assert fcfs(picture).jobs == (decode_of("b"),)


def test_round_robin_serves_the_least_recently_served():
    picture = view(decoding("a", 3, oldest_s=0.0, last_decode=7), decoding("b", 2, last_prefill=6, last_decode=2))

    assert round_robin(picture).jobs == (decode_of("b"),)


@pytest.mark.parametrize("policy", [fcfs, round_robin])
def test_temporal_policies_launch_nothing_beside_a_job(policy):
    assert policy(view(waits("a"), decoding("b", 2, in_flight=1, lane=1))) == StepPlan()


@pytest.mark.parametrize("policy", [fcfs, round_robin])
def test_temporal_policies_launch_one_job_behind_another_of_the_same_lane(policy):
    served = decoding("b", 2, in_flight=1, oldest_s=1.0, last_decode=1)
    following = {fcfs: decode_of("b"), round_robin: prefill_of("a")}[policy]

    assert policy(view(waits("a"), served)).jobs == (following,)
    assert policy(view(waits("a"), replace(served, in_flight=2))) == StepPlan()


def test_a_job_of_whose_turn_it_is_not_is_not_launched_ahead():
    served = decoding("b", 0, in_flight=1, running=2, oldest_s=1.0)

    assert fcfs(view(waits("a"), served)) == StepPlan()
    assert fcfs(view(waits("a"), decoding("b", 2, in_flight=1, ready=False))) == StepPlan()


@pytest.mark.parametrize("policy", [fcfs, round_robin])
def test_temporal_policies_preempt_nobody_while_a_job_is_in_flight(policy):
    picture = view(stuck("a", 2, 3.0), decoding("b", 2, in_flight=1, youngest=running("b", 5.0, idle=False), last_decode=9), free=9)

    assert policy(picture).preempt == ()


@pytest.mark.parametrize("policy", [fcfs, round_robin])
def test_temporal_policies_read_no_quota(policy):
    assert policy(view(waits("a", quota_blocks=0, floor_blocks=0, running=1))).jobs == (prefill_of("a"),)


@pytest.mark.parametrize("policy", BY_NAME.values())
def test_a_prefill_takes_the_decodes_of_its_model_along(policy):
    both = replace(decoding("a", 200, quota_blocks=9000), pending=waits("a").pending, waiting=1)

    assert policy(view(both, free=3000, token_budget=8)).jobs == (replace(prefill_of("a"), decode=True),)


@pytest.mark.parametrize(("policy", "least_free"), [(adbs, 30 + 20), (fcfs, 40 + 20), (round_robin, 40 + 20)])
def test_a_model_grows_before_it_admits_in_the_same_job(policy, least_free):
    grows = replace(decoding("a", 1, growing=3, running=4), pending=waits("a").pending, waiting=1)

    assert policy(view(grows, free=least_free - 1)).jobs == (decode_of("a", grow=3),)
    assert policy(view(grows, free=least_free)).jobs == (replace(prefill_of("a"), decode=True, grow=3),)


@pytest.mark.parametrize("policy", BY_NAME.values())
def test_a_prefill_goes_on_while_no_sequence_of_its_model_can_decode(policy):
    admitted = Pending(request_id="a-new", arrival_s=2.0, tokens=8, blocks=0)

    assert policy(view(stuck("a", 2, 1.0, pending=(admitted,)), free=9)).jobs == (prefill_of("a"),)


@pytest.mark.parametrize("policy", BY_NAME.values())
def test_nobody_is_admitted_before_the_model_whose_turn_it_is(policy):
    first = waits("a", blocks=900, arrival_s=1.0, last_prefill=1)
    second = waits("b", blocks=10, arrival_s=2.0, last_prefill=2)

    assert policy(view(first, second, decoding("c", 2), free=500)).jobs == (decode_of("c"),)
    assert prefill_of("a") in policy(view(first, second, free=1000)).jobs


def test_adbs_launches_a_prefill_beside_the_decodes_of_the_others():
    picture = view(decoding("a", 2, last_decode=4), waits("b"), decoding("c", 3, last_decode=2))

    assert adbs(picture).jobs == (prefill_of("b"), decode_of("c"), decode_of("a"))


def test_adbs_executes_one_prefill_at_a_time():
    assert adbs(view(waits("a"), decoding("b", 1), model("c", prefills_in_flight=1))).jobs == (decode_of("b"),)


def test_adbs_prefills_in_turn():
    assert adbs(view(waits("a", last_prefill=5), waits("b", last_prefill=3))).jobs == (prefill_of("b"),)


def test_adbs_keeps_the_turn_of_a_model_that_is_not_ready():
    picture = view(waits("a", ready=False, in_flight=2), waits("b", last_prefill=3))

    assert adbs(picture) == StepPlan()


def test_adbs_passes_over_a_model_whose_quota_is_full():
    full = waits("a", running=1, held_blocks=495)

    assert adbs(view(full, waits("b", last_prefill=3))).jobs == (prefill_of("b"),)


def test_adbs_admits_one_beyond_the_quota_of_a_model_that_holds_nothing():
    two = replace(waits("a", blocks=600), pending=(*waits("a", blocks=600).pending, *waits("b", blocks=10).pending), waiting=2)

    assert adbs(view(two)).jobs == (prefill_of("a"),)


def test_growth_comes_before_admission():
    grows = decoding("a", 1, growing=3, running=4, in_flight=2, ready=False)

    assert adbs(view(grows, waits("b", blocks=20), free=49)).jobs == ()
    assert adbs(view(grows, waits("b", blocks=20), free=50)).jobs == (prefill_of("b"),)


def test_decode_grows_as_many_as_there_are_blocks_and_quota_for():
    grows = decoding("a", 1, growing=3, running=4)

    assert adbs(view(grows, free=29)).jobs == (decode_of("a", grow=2),)
    assert adbs(view(replace(grows, held_blocks=485))).jobs == (decode_of("a", grow=1),)


def test_a_prefill_is_cut_to_the_token_budget_and_to_max_rows():
    requests = tuple(Pending(request_id=str(i), arrival_s=i, tokens=30, blocks=10 * (i > 0)) for i in range(6))
    crowd = model("a", pending=requests, waiting=5, free_slots=9, running=1, held_blocks=10)

    by_budget = adbs(view(crowd, token_budget=70)).jobs[0]
    by_rows = adbs(view(crowd, token_budget=1000)).jobs[0]

    assert by_budget.chunks == tuple(Chunk(request_id=str(i), tokens=n) for i, n in enumerate((30, 30, 6)))
    assert [chunk.request_id for chunk in by_rows.chunks] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("policy", BY_NAME.values())
def test_a_prefill_beside_another_models_sequences_is_cut_to_the_shared_budget(policy):
    long = waits("a", tokens=60, last_prefill=0, last_decode=0)
    busy, idle = decoding("b", 1, in_flight=1, last_prefill=9, last_decode=9), model("b")

    def tokens(*models: ModelView, shared_budget: int | None) -> set[int]:
        return {chunk.tokens for job in policy(view(*models, shared_budget=shared_budget)).jobs for chunk in job.chunks}

    assert tokens(long, idle, shared_budget=16) == tokens(long, idle, shared_budget=None) == {60}
    assert tokens(long, shared_budget=16) == {60}
    beside = tokens(long, busy, shared_budget=16)
    assert beside == {16} or (policy is not adbs and not beside), "the others may let it wait"


def test_growth_goes_to_the_least_recently_decoded_whoever_prefills():
    chunk = Pending(request_id="a-new", arrival_s=2.0, tokens=8, blocks=0)
    prefills = decoding("a", 1, growing=1, running=3, last_decode=5, pending=(chunk,))
    other = decoding("b", 1, growing=1, running=2, last_decode=3)

    assert adbs(view(prefills, other, free=10)).jobs == (replace(prefill_of("a"), decode=True), decode_of("b", grow=1))
    other = replace(other, last_decode=7)
    assert adbs(view(prefills, other, free=10)).jobs == (replace(prefill_of("a"), decode=True, grow=1), decode_of("b"))


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12), token_budget=st.integers(1, 100))
def test_chunks_fill_the_budget_in_grains_in_the_order_of_their_requests(lengths, token_budget):
    requests = tuple(Pending(request_id=str(i), arrival_s=i, tokens=tokens, blocks=0) for i, tokens in enumerate(lengths))
    picture = view(model("a", pending=requests), token_budget=token_budget, max_rows=12)

    tokens = [chunk.tokens for chunk in fit.chunks(picture, picture.models[0], 0, token_budget)]

    before_last = sum(in_grains(count) for count in tokens[:-1])
    assert tokens[:-1] == lengths[: len(tokens) - 1]
    assert tokens[-1] == min(lengths[len(tokens) - 1], token_budget - before_last) > 0
    assert len(tokens) == len(lengths) or before_last + in_grains(tokens[-1]) >= token_budget


def in_grains(tokens: int) -> int:
    return math.ceil(tokens / TOKEN_GRAIN) * TOKEN_GRAIN


@pytest.mark.parametrize("changes", [{}, {"grow": 1}, {"chunks": (Chunk(request_id="r", tokens=1),), "grow": 1}])
def test_a_job_that_does_nothing_or_grows_without_decoding_is_a_defect(changes):
    with pytest.raises(ValueError, match="a job of a that does nothing, or grows"):
        Job(model="a", **changes)


@pytest.mark.parametrize("policy", BY_NAME.values())
def test_the_youngest_of_the_unit_makes_room_for_a_model_that_starves(policy):
    plan = policy(view(stuck("a", 2, 3.0), decoding("b", 2, oldest_s=1.0, youngest=running("b", 5.0), last_decode=9), free=9))

    assert plan.preempt == ("b-young",)
    assert all(job.model != "b" for job in plan.jobs)


@pytest.mark.parametrize("policy", BY_NAME.values())
def test_the_last_running_request_is_not_preempted(policy):
    assert policy(view(stuck("a", 1, 3.0), free=9)).preempt == ()


def test_adbs_lets_a_busy_victim_come_to_rest():
    busy = decoding("b", 2, youngest=running("b", 5.0, idle=False), in_flight=1)

    assert adbs(view(stuck("a", 2, 3.0), busy, free=9)) == StepPlan()


def test_a_model_short_of_quota_alone_gives_up_its_own_youngest():
    plan = adbs(view(stuck("a", 2, 3.0, held_blocks=500), decoding("b", 2, youngest=running("b", 5.0))))

    assert plan.preempt == ("a-young",)
    assert plan.jobs == (decode_of("b"),)


def test_no_quota_holds_back_the_last_sequence_of_a_model():
    assert adbs(view(stuck("a", 1, 3.0, held_blocks=500))).jobs == (decode_of("a", grow=1),)


def test_quotas_move_once_a_period():
    full = waits("a", running=1, held_blocks=495)

    assert adbs(view(full, model("b"), quota_age_s=PERIOD_S / 2)).quotas == {}
    assert adbs(view(full, model("b"), quota_age_s=PERIOD_S)).quotas == {"a": 700, "b": 300}
