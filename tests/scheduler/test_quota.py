"""Quotas: shares add up, floors hold, use decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.scheduler import quota
from tests.scheduler.pictures import decoding, model, view, waits

weights = st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0, 1e6), min_size=1, max_size=6)


@given(total=st.integers(0, 10**7), weights=weights)
def test_shares_are_whole_and_add_up(total, weights):
    shares = quota.split(total, weights)

    assert sum(shares.values()) == total
    exact = {name: total * weight / sum(weights.values()) for name, weight in weights.items()} if any(weights.values()) else {}
    assert all(abs(shares[name] - share) < 1.001 for name, share in exact.items())


def test_first_quotas_follow_rate_times_blocks_per_token_above_the_floors():
    found = quota.initial({"a": 2, "b": 8}, {"a": 10, "b": 5}, 1000, {"a": 100, "b": 300})

    assert found == {"a": 100 + 200, "b": 300 + 400}


def test_floors_beyond_the_arena_are_a_defect():
    with pytest.raises(ValueError, match="floors of 12 head blocks in an arena of 10"):
        quota.initial({"a": 1.0}, {"a": 1.0}, 10, {"a": 12})


def test_floors_of_all_models_leave_half_of_the_arena():
    assert quota.floors({"a": 1.0, "b": 1.0}, 1000) == {"a": 250, "b": 250}


def test_floors_are_in_proportion_to_the_weights():
    assert quota.floors({"a": 3.0, "b": 1.0}, 1000) == {"a": 375, "b": 125}


def test_a_saturated_model_gets_what_others_do_not_use_down_to_their_floor():
    picture = view(waits("a", running=1, held_blocks=495), model("b", quota_blocks=300, floor_blocks=100))
    found = quota.rebalance(picture)

    assert found == {"a": 600, "b": 200}


def test_what_a_model_holds_and_will_soon_grow_into_is_not_given_away():
    hungry = waits("a", running=1, held_blocks=495)

    assert quota.rebalance(view(hungry, decoding("b", 40))) == {"a": 500, "b": 500}
    assert quota.rebalance(view(hungry, decoding("b", 10))) == {"a": 650, "b": 350}


def test_without_a_saturated_model_nothing_moves():
    assert quota.rebalance(view(model("a"), model("b", quota_blocks=300))) == {"a": 500, "b": 300}


def test_saturated_models_come_to_quotas_in_the_proportion_of_their_floors():
    quotas = {"a": 800, "b": 200}
    for _ in range(20):
        full = [waits(name, running=1, held_blocks=blocks, quota_blocks=blocks, floor_blocks=100) for name, blocks in quotas.items()]
        quotas = quota.rebalance(view(*full))

    assert quotas == pytest.approx({"a": 500, "b": 500}, abs=2)


models = st.builds(
    lambda i, spare, floor, held, grows: waits(
        f"m{i}", running=1, growing=grows, quota_blocks=floor + spare, floor_blocks=floor, held_blocks=held
    ),
    i=st.integers(0, 10**6),
    spare=st.integers(0, 1000),
    floor=st.integers(0, 1000),
    held=st.integers(0, 2500),
    grows=st.integers(0, 5),
)


@given(st.lists(models, min_size=1, max_size=6, unique_by=lambda model: model.name))
def test_the_sum_stays_and_floors_hold(found):
    quotas = quota.rebalance(view(*found))

    assert sum(quotas.values()) == sum(model.quota_blocks for model in found)
    assert all(quotas[model.name] >= model.floor_blocks for model in found)
