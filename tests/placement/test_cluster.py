"""Mesh groups: all of them, each once, none that the nodes cannot hold."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.cost.chip import A100
from muxjax.errors import ConfigError
from muxjax.placement.cluster import (
    Mesh,
    few_groups,
    first_devices,
    groups_with_idle_devices,
    in_order,
    mesh_groups,
    mesh_sizes,
    neighbours,
    packs,
)
from muxjax.placement.problem import Cluster, Pool


def cluster(nodes: int, devices_per_node: int) -> Cluster:
    return Cluster.uniform(chip=A100, nodes=nodes, devices_per_node=devices_per_node)


def mixed(*nodes: tuple[int, int]) -> Cluster:
    """Of pools of so many nodes of so many devices."""
    return Cluster(tuple(Pool(chip=A100, nodes=count, devices_per_node=devices) for count, devices in nodes))


def group(*sizes: int) -> tuple[Mesh, ...]:
    """Of one pool."""
    return tuple(map(Mesh, sizes))


def devices(group: tuple[Mesh, ...]) -> int:
    return sum(mesh.devices for mesh in group)


uniform_clusters = st.builds(cluster, st.integers(1, 4), st.integers(1, 9))
clusters = uniform_clusters | st.builds(mixed, *[st.tuples(st.integers(1, 2), st.integers(1, 4))] * 2)


def fits_somehow(group: tuple[int, ...], free: tuple[int, ...]) -> bool:
    """By trying every node for every mesh."""
    if not group:
        return True
    return any(
        fits_somehow(group[1:], (*free[:node], free[node] - group[0], *free[node + 1 :]))
        for node in range(len(free))
        if free[node] >= group[0]
    )


@given(clusters)
def test_every_group_uses_every_device_once_and_packs(asked):
    groups = list(mesh_groups(asked))

    assert len(groups) == len(set(groups))
    assert all(devices(group) == asked.devices and packs(group, asked) for group in groups)
    assert all(group == in_order(group) for group in groups)


@given(st.builds(cluster, st.integers(1, 3), st.integers(1, 6)), st.data())
def test_packing_agrees_with_trying_every_node(asked, data):
    (pool,) = asked.pools
    sizes = tuple(sorted(data.draw(st.lists(st.sampled_from(mesh_sizes(pool)), max_size=7)), reverse=True))

    assert packs(group(*sizes), asked) == fits_somehow(sizes, (pool.devices_per_node,) * pool.nodes)


def test_two_meshes_of_four_do_not_pack_into_a_node_of_six():
    assert packs(group(4, 2), cluster(1, 6))
    assert not packs(group(4, 4), cluster(1, 6))
    assert not packs(group(4, 4, 4), cluster(2, 6))
    assert packs(group(4, 4, 2, 2), cluster(2, 6))
    assert not packs(group(3, 3), cluster(1, 6))


@given(clusters, st.data())
def test_meshes_of_a_group_lie_side_by_side_within_nodes(asked, data):
    group = data.draw(st.sampled_from(list(itertools.islice(mesh_groups(asked), 50))))
    meshes = list(zip(first_devices(group, asked), group, strict=True))
    numbers = [device for first, mesh in meshes for device in range(first, first + mesh.devices)]
    nodes = [(at, node) for at, pool in enumerate(asked.pools) for node in range(pool.nodes) for _ in range(pool.devices_per_node)]

    assert sorted(numbers) == list(range(asked.devices))
    for first, mesh in meshes:
        (own,) = {*nodes[first : first + mesh.devices]}
        assert own[0] == mesh.pool


def test_devices_that_may_not_be_used_are_in_no_group():
    few = Cluster.uniform(chip=A100, nodes=2, devices_per_node=4, usable=5)

    assert few.devices == 5 and mesh_sizes(few.pools[0]) == (4, 2, 1)
    assert {devices(group) for group in mesh_groups(few)} == {5} and {group(4, 1), group(2, 2, 1)} <= {*mesh_groups(few)}
    assert packs(group(4, 1), few) and not packs(group(4, 2), few)
    assert mesh_sizes(Pool(chip=A100, nodes=1, devices_per_node=8, usable=3)) == (2, 1)
    with pytest.raises(ConfigError, match=r"cluster\.usable must be 0 to 8, got 9"):
        Cluster.uniform(chip=A100, nodes=2, devices_per_node=4, usable=9)


@pytest.mark.parametrize("nodes, devices, groups", [(1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 6, 6), (1, 8, 10), (4, 8, 165)])
def test_so_many_groups_there_are(nodes, devices, groups):
    assert len(list(mesh_groups(cluster(nodes, devices)))) == groups


@given(st.builds(cluster, st.integers(1, 2), st.integers(1, 8)))
def test_groups_of_a_smaller_cluster_are_groups_with_idle_devices_of_a_larger_one(smaller):
    (pool,) = smaller.pools
    larger = (cluster(pool.nodes, pool.devices_per_node + 1), cluster(pool.nodes + 1, pool.devices_per_node))

    for asked in larger:
        assert {*mesh_groups(smaller), *groups_with_idle_devices(smaller)} <= {*groups_with_idle_devices(asked)}


@given(clusters)
def test_groups_with_idle_devices_pack_and_are_no_full_ones(asked):
    groups = list(groups_with_idle_devices(asked))

    assert len(groups) == len(set(groups))
    assert all(packs(group, asked) and devices(group) < asked.devices for group in groups)


@given(st.integers(1, 100), st.integers(1, 80))
def test_large_clusters_are_cut_coarsely(nodes, most):
    groups, grain = few_groups(cluster(nodes, 8), most)

    assert 1 <= len(groups) <= most
    assert len(set(groups)) == len(groups)
    assert all(devices(group) == 8 * nodes and packs(group, cluster(nodes, 8)) for group in groups)
    assert grain > 1 or len(groups) == len(list(mesh_groups(cluster(nodes, 8))))


@given(clusters, st.sampled_from((1, 2, 4, 8)))
def test_neighbours_are_other_full_groups(asked, grain):
    for group in itertools.islice(mesh_groups(asked), 20):
        near = list(neighbours(group, asked, grain))
        assert group not in near
        assert all(devices(other) == asked.devices and packs(other, asked) for other in near)


def test_steps_of_one_device_lead_from_any_group_to_any_other():
    asked = mixed((1, 8), (2, 2))
    reached, edge = set(), {next(mesh_groups(asked))}
    while edge:
        reached |= edge
        edge = {other for group in edge for other in neighbours(group, asked, 1)} - reached

    assert reached == set(mesh_groups(asked))


def test_meshes_of_different_pools_do_not_take_room_from_each_other():
    asked = mixed((1, 4), (2, 2))

    assert packs((Mesh(4, 0), Mesh(2, 1), Mesh(2, 1)), asked)
    assert not packs((Mesh(4, 1),), asked) and not packs((Mesh(1, 2),), asked)
    assert first_devices((Mesh(4, 0), Mesh(2, 1), Mesh(1, 1), Mesh(1, 1)), asked) == [0, 4, 6, 7]
    assert len(list(mesh_groups(asked))) == 4 * 3


def test_a_pool_of_which_nothing_may_be_used_has_no_meshes():
    asked = Cluster((Pool(chip=A100, nodes=1, devices_per_node=2, usable=0), Pool(chip=A100, nodes=1, devices_per_node=1)))

    assert list(mesh_groups(asked)) == [(Mesh(1, 1),)] and first_devices((Mesh(1, 1),), asked) == [2]
    with pytest.raises(ConfigError, match="so many that there are 1 to"):
        Cluster(asked.pools[:1])
