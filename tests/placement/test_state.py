"""A state is the units that it counts, whatever was done to it."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.placement.cluster import Mesh
from muxjax.placement.objective import Member, UnitContents
from muxjax.placement.problem import Cluster, Problem
from muxjax.placement.search import insert
from muxjax.placement.state import State
from tests.placement.toy import CHIP, demand, solver

NAMES = "abc"
PROBLEM = Problem(
    demands=tuple(demand(name, 100, 8.0, kv_heads=1) for name in NAMES), cluster=Cluster.uniform(chip=CHIP, nodes=2, devices_per_node=4)
)
members = st.sets(st.sampled_from(NAMES)).map(lambda names: tuple(Member(name, 2, 1) for name in sorted(names)))
units = st.builds(UnitContents, st.sampled_from((Mesh(1), Mesh(2))), members)


@given(st.lists(units, min_size=1, max_size=6), st.data())
def test_a_state_that_changes_is_the_list_of_units_that_changes(listed, data):
    objective, _ = solver(PROBLEM)
    state, other = State.of(listed), list(listed)
    for _ in range(data.draw(st.integers(0, 4))):
        before, after = data.draw(st.sampled_from(other)), data.draw(st.lists(units, min_size=1, max_size=2))
        times = data.draw(st.integers(1, other.count(before)))
        state = state.replaced(before, *after, times=times)
        for _ in range(times):
            other.remove(before)
        other += after * times

    assert list(state) == sorted(other) and len(state) == len(other) and state == State.of(other)
    assert state.meshes == Counter(contents.mesh for contents in other)
    assert state.total(objective) == pytest.approx(objective.total(other))
    assert state.gain(objective) == pytest.approx(objective.total(other) - objective.total(listed), abs=1e-9)
    assert state.settled() == state and state.settled().gain(objective) == 0
    for name in NAMES:
        assert state.holding(name) == sorted({contents for contents in other if contents.holds(name)})
        assert state.parts(name) == sum(contents.holds(name) for contents in other)
        assert [member.parts for contents in state.divided(name, 3) for member in contents.members if member.model == name] == [
            3
        ] * state.parts(name)
        assert state.divided(name, 3).without(name) == state.without(name)
        assert list(state.without(name)) == sorted(contents.without(name) for contents in other)


@given(st.lists(units, min_size=1, max_size=6), st.integers(1, 6))
def test_replicas_that_are_inserted_together_are_where_they_would_be_one_after_the_other(listed, count):
    objective, candidates = solver(PROBLEM)
    state = State.of(contents.without("a") for contents in listed)
    one_by_one: State | None = state
    for _ in range(count):
        one_by_one = one_by_one and insert(one_by_one, "a", 1, objective, candidates, of=count)

    assert insert(state, "a", count, objective, candidates) == one_by_one


def test_a_unit_that_is_not_there_is_never_replaced():
    with pytest.raises(AssertionError):
        State.of([UnitContents(Mesh(1)), UnitContents(Mesh(2))]).replaced(UnitContents(Mesh(1)), UnitContents(Mesh(2)), times=2)
