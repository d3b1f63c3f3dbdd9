"""Mesh groups: all of them, each once, none that the nodes cannot hold."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.cost.chip import A100
from muxjax.errors import ConfigError
from muxjax.placement.cluster import few_groups, first_devices, groups_with_idle_devices, mesh_groups, mesh_sizes, neighbours, packs
from muxjax.placement.problem import Cluster


def cluster(nodes: int, devices_per_node: int) -> Cluster:
    return Cluster(chip=A100, nodes=nodes, devices_per_node=devices_per_node)


clusters = st.builds(cluster, st.integers(1, 4), st.integers(1, 9))


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
    assert all(sum(group) == asked.devices and packs(group, asked) for group in groups)
    assert all(group == tuple(sorted(group, reverse=True)) for group in groups)


@given(st.builds(cluster, st.integers(1, 3), st.integers(1, 6)), st.data())
def test_packing_agrees_with_trying_every_node(asked, data):
    group = tuple(sorted(data.draw(st.lists(st.sampled_from(mesh_sizes(asked)), max_size=7)), reverse=True))

    assert packs(group, asked) == fits_somehow(group, (asked.devices_per_node,) * asked.nodes)


def test_two_meshes_of_four_do_not_pack_into_a_node_of_six():
    assert packs((4, 2), cluster(1, 6))
    assert not packs((4, 4), cluster(1, 6))
    assert not packs((4, 4, 4), cluster(2, 6))
    assert packs((4, 4, 2, 2), cluster(2, 6))
    assert not packs((3, 3), cluster(1, 6))


@given(clusters, st.data())
def test_meshes_of_a_group_lie_side_by_side_within_nodes(asked, data):
    group = data.draw(st.sampled_from(list(itertools.islice(mesh_groups(asked), 50))))
    meshes = list(zip(first_devices(group, asked), group, strict=True))
    devices = [device for first, size in meshes for device in range(first, first + size)]

    assert sorted(devices) == list(range(asked.devices))
    assert all(first // asked.devices_per_node == (first + size - 1) // asked.devices_per_node for first, size in meshes)


def test_devices_that_may_not_be_used_are_in_no_group():
    few = Cluster(chip=A100, nodes=2, devices_per_node=4, usable=5)

    assert few.devices == 5 and mesh_sizes(few) == (4, 2, 1)
    assert {sum(group) for group in mesh_groups(few)} == {5} and (4, 1) in mesh_groups(few) and (2, 2, 1) in mesh_groups(few)
    assert packs((4, 1), few) and not packs((4, 2), few)
    assert mesh_sizes(Cluster(chip=A100, nodes=1, devices_per_node=8, usable=3)) == (2, 1)
    with pytest.raises(ConfigError, match=r"cluster\.usable must be 1 to 8, got 9"):
        Cluster(chip=A100, nodes=2, devices_per_node=4, usable=9)


@pytest.mark.parametrize("nodes, devices, groups", [(1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 6, 6), (1, 8, 10), (4, 8, 165)])
def test_so_many_groups_there_are(nodes, devices, groups):
    assert len(list(mesh_groups(cluster(nodes, devices)))) == groups


@given(st.builds(cluster, st.integers(1, 2), st.integers(1, 8)))
def test_groups_of_a_smaller_cluster_are_groups_with_idle_devices_of_a_larger_one(smaller):
    larger = (cluster(smaller.nodes, smaller.devices_per_node + 1), cluster(smaller.nodes + 1, smaller.devices_per_node))

    for asked in larger:
        assert {*mesh_groups(smaller), *groups_with_idle_devices(smaller)} <= {*groups_with_idle_devices(asked)}


@given(clusters)
def test_groups_with_idle_devices_pack_and_are_no_full_ones(asked):
    groups = list(groups_with_idle_devices(asked))

    assert len(groups) == len(set(groups))
    assert all(packs(group, asked) and sum(group) < asked.devices for group in groups)


@given(st.integers(1, 100), st.integers(1, 80))
def test_large_clusters_are_cut_coarsely(nodes, most):
    groups, grain = few_groups(cluster(nodes, 8), most)

    assert 1 <= len(groups) <= most
    assert len(set(groups)) == len(groups)
    assert all(sum(group) == 8 * nodes and packs(group, cluster(nodes, 8)) for group in groups)
    assert grain > 1 or len(groups) == len(list(mesh_groups(cluster(nodes, 8))))


@given(clusters, st.sampled_from((1, 2, 4, 8)))
def test_neighbours_are_other_full_groups(asked, grain):
    for group in itertools.islice(mesh_groups(asked), 20):
        near = list(neighbours(group, asked, grain))
        assert group not in near
        assert all(sum(other) == asked.devices and packs(other, asked) for other in near)


def test_steps_of_one_device_lead_from_any_group_to_any_other():
    asked = cluster(2, 8)
    reached, edge = set(), {next(mesh_groups(asked))}
    while edge:
        reached |= edge
        edge = {other for group in edge for other in neighbours(group, asked, 1)} - reached

    assert reached == set(mesh_groups(asked))
