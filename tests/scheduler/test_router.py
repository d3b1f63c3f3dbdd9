from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from muxjax.scheduler.router import Replica, route

REPLICAS = st.lists(st.builds(Replica, st.floats(0, 1e6), st.floats(0.01, 100), st.integers(0, 100)), min_size=1, max_size=6)


@given(REPLICAS)
def test_no_other_has_less_to_do_for_its_rate(replicas):
    burdens = [replica.outstanding_tokens / replica.rate_rps for replica in replicas]
    assert burdens[route(replicas)] == min(burdens)


def test_idle_ones_get_their_parts():
    routed: Counter[int] = Counter()
    for _ in range(12):
        routed[route([Replica(0, rate, routed[i]) for i, rate in enumerate((2.0, 1.0, 1.0))])] += 1
    assert routed == {0: 6, 1: 3, 2: 3}


def test_parts_follow_the_rates_where_nothing_ends():
    outstanding, routed = [0.0, 0.0], Counter()
    for _ in range(400):
        i = route([Replica(outstanding[0], 3.0, routed[0]), Replica(outstanding[1], 1.0, routed[1])])
        outstanding[i] += 10
        routed[i] += 1
    assert 295 <= routed[0] <= 305
