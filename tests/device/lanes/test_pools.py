"""Pools of a lane's devices, and steps of models that have some of them."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.device.lanes.arena import OwnArenas
from muxjax.device.lanes.lane import Lane, _Failure, _Flight
from muxjax.device.lanes.pools import Pools
from muxjax.models.sharding import OWN, Devices

TWO = Devices.first(2)
ARENA = TWO.joined(jax.ShapeDtypeStruct((3, 4), jnp.float32), OWN)


@pytest.fixture
def pools() -> Pools:
    return Pools.of(jax.device_put(np.arange(24, dtype=np.float32).reshape(6, 4), ARENA.sharding) + 0)  # in memory of their own


def pointers(pools: Pools) -> list[int]:
    return [pools.under(TWO.at([place])).unsafe_buffer_pointer() for place in (0, 1)]


def test_steps_on_one_device_and_on_both_write_where_the_pools_lie(pools):
    add = jax.jit(lambda blocks_NE: blocks_NE + 1, donate_argnums=0)
    before = pointers(pools)
    for devices in (TWO, TWO.at([1]), TWO, TWO.at([0])):
        pools = pools.replaced(add(pools.under(devices)))
    assert pointers(pools) == before and not pools.is_deleted
    np.testing.assert_array_equal(pools.under(TWO), np.arange(24).reshape(6, 4) + 3)


@pytest.mark.parametrize("places", [[0], [1], [0, 1]])
def test_pools_that_a_step_took_are_missed(pools, places):
    take = jax.jit(lambda blocks_NE: blocks_NE + 1, donate_argnums=0)
    take(pools.under(TWO.at(places)))
    assert pools.is_deleted
    pools.delete()  # what is left of them


def test_a_step_ends_before_an_earlier_one_of_other_devices_and_not_before_one_of_its_own():
    lane, failure = Lane(0, OwnArenas(ARENA), lambda: 0.0), _Failure("it was to fail", lost=False)
    slow = SimpleNamespace(is_ready=lambda: False)
    flights = [("slow", slow, {0}), ("both", failure, {0, 1}), ("other", failure, {1})], [("slow", slow, {0}), ("other", failure, {1})]
    landed = []
    for flown in flights:
        lane._flights.clear()
        for name, result, places in flown:
            devices = frozenset(TWO.at(sorted(places)).each)
            lane._fly(_Flight(SimpleNamespace(id=name, model="m"), None, result, devices))  # pyright: ignore[reportArgumentType]
        landed.append([done.step_id for done in lane.landed()])
    assert landed == [[], ["other"]]
