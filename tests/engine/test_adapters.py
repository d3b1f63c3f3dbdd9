"""Which requests may begin beside others that compute with adapters."""

from hypothesis import given
from hypothesis import strategies as st

from muxjax.engine.model.adapters import OVERTAKING_S, admissible
from muxjax.engine.model.sequence import Sequence
from muxjax.types import Adapter, Request, Sampling
from tests.engine.test_waiting import CONFIG

ADAPTERS = [Adapter(name=name, path=f"/{name}", version=1) for name in "abcde"]
A, B, C, D, _ = ADAPTERS


def waiting_of(*asked: tuple[float, Adapter | None]) -> list[Sequence]:
    requests = [
        Request(id=str(i), model="a", adapter=adapter, prompt=(1,), sampling=Sampling(), arrival_s=arrival_s)
        for i, (arrival_s, adapter) in enumerate(asked)
    ]
    return [Sequence.of(request, CONFIG) for request in requests]


def chosen(waiting: list[Sequence], running: set[Adapter], places: int) -> list[int]:
    return [int(sequence.request.id) for sequence in admissible(waiting, running, places)]


def test_as_many_different_adapters_begin_as_have_places_and_any_number_of_requests_of_each():
    waiting = waiting_of((0, A), (0, B), (0, A), (0, C), (0, None), (0, B))
    assert chosen(waiting, set(), 2) == [0, 1, 2, 4, 5]
    assert chosen(waiting, {C}, 2) == [0, 2, 3, 4]
    assert chosen(waiting, {C, D}, 2) == [3, 4]
    assert chosen(waiting, set(), 3) == [0, 1, 2, 3, 4, 5]


def test_who_waits_for_a_place_is_overtaken_for_a_while_only_but_by_requests_without_adapter():
    waiting = waiting_of((1, C), (1 + OVERTAKING_S, A), (1.1 + OVERTAKING_S, A), (99, None), (99, B))
    assert chosen(waiting, {A, B}, 2) == [1, 3]


@given(
    st.lists(st.tuples(st.floats(0, 10), st.sampled_from([None, *ADAPTERS])), max_size=20),
    st.sets(st.sampled_from(ADAPTERS), max_size=5),
    st.integers(1, 5),
)
def test_places_always_suffice_and_somebody_begins_where_nobody_runs(asked, running, places):
    running = set(sorted(running, key=lambda adapter: adapter.name)[:places])
    waiting = waiting_of(*sorted(asked, key=lambda pair: pair[0]))
    allowed = admissible(waiting, running, places)
    beside = running | {sequence.request.adapter for sequence in allowed if sequence.request.adapter}
    assert len(beside) <= places
    assert [sequence for sequence in waiting if sequence in allowed] == allowed
    assert all(sequence in allowed for sequence in waiting if sequence.request.adapter is None)
    if waiting and not running:
        assert waiting[0] in allowed
