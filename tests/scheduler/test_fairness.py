"""Turns of tenants, and of models by weight: laws, and pictures that one can check by eye."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.scheduler import fit
from muxjax.scheduler.fairness import lifted, take_turns
from tests.scheduler.pictures import model

costs = st.lists(st.lists(st.integers(1, 50).map(float), max_size=8), max_size=5)


def test_whoever_had_least_is_next_and_pays_for_it():
    assert take_turns([0.0, 5.0], [[3.0, 3.0, 3.0], [1.0, 9.0]], 5) == [0, 0, 1, 0, 1]


def test_of_equal_ones_the_first_is_next():
    assert take_turns([2.0, 2.0, 2.0], [[1.0], [1.0], [1.0]], 2) == [0, 1]


@given(costs, st.data(), st.integers(0, 50))
def test_everybody_who_waits_comes_once_as_often_as_they_wait(found, data, count):
    served = [float(data.draw(st.integers(0, 100))) for _ in found]
    order = take_turns(served, found, count)
    assert len(order) == min(count, sum(map(len, found)))
    assert all(times <= len(found[tenant]) for tenant, times in Counter(order).items())


@given(costs, st.data(), st.integers(0, 50))
def test_no_tenant_is_served_while_another_that_waits_has_had_less(found, data, count):
    served = [float(data.draw(st.integers(0, 100))) for _ in found]
    lines = [list(line) for line in found]
    for tenant in take_turns(served, found, count):
        assert served[tenant] == min(counter for counter, line in zip(served, lines, strict=True) if line)
        served[tenant] += lines[tenant].pop(0)


def test_who_comes_back_begins_where_the_others_are():
    assert lifted(3.0, [100.0, 90.0], 95.0) == 90.0
    assert lifted(120.0, [100.0, 90.0], 95.0) == 120.0
    assert lifted(3.0, [], 95.0) == 95.0


def turns_of(weights: dict[str, float], count: int) -> list[str]:
    """Models that always have work, a job after the other."""
    models, served = {name: model(name, weight=weight) for name, weight in weights.items()}, []
    for number in range(1, count + 1):
        first = fit.by_turn(models.values(), lambda one: one.last_prefill)[0].name
        models[first] = replace(models[first], last_prefill=number)
        served.append(first)
    return served


@pytest.mark.parametrize(
    "weights", [{"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 1}, {"a": 4, "b": 1, "c": 1}, {"a": 2, "b": 2, "c": 1}, {"a": 100, "b": 1}]
)
def test_models_take_turns_about_by_weight(weights):
    served = Counter(turns_of(weights, 2000))
    for name, weight in weights.items():
        assert served[name] / 2000 == pytest.approx(weight / sum(weights.values()), rel=0.25)


@given(st.dictionaries(st.sampled_from("abcde"), st.floats(0.01, 100), min_size=2))
def test_every_model_gets_its_turn(weights):
    order = turns_of(weights, 40 + int(4 * sum(weights.values()) / min(weights.values())))
    assert set(order) == set(weights)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=6))
def test_with_equal_weights_the_least_recently_served_is_next(numbers):
    models = [model(str(i), last_prefill=prefill, last_decode=decode) for i, (prefill, decode) in enumerate(numbers)]
    assert fit.by_turn(models, lambda one: one.last_prefill) == sorted(models, key=lambda one: one.last_prefill)
