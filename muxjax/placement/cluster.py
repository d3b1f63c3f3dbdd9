"""The ways to cut a cluster into meshes: powers of two of devices, each within a node."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from muxjax.placement.problem import Cluster

MeshGroup = tuple[int, ...]
"""Devices of each mesh, descending; equal groups are equal values."""


def mesh_sizes(cluster: Cluster) -> tuple[int, ...]:
    """Devices that a mesh can have, descending."""
    largest = min(cluster.devices_per_node, cluster.devices)
    return tuple(2**power for power in reversed(range(largest.bit_length())))


def room(cluster: Cluster, size: int) -> int:
    """Most devices of the cluster that meshes of that size, or larger ones, can cover."""
    return min(cluster.nodes * (cluster.devices_per_node // size) * size, cluster.devices)


def packs(group: Iterable[int] | Mapping[int, int], cluster: Cluster) -> bool:
    """Whether the nodes hold these meshes, or so many of each size, side by side.

    Sizes divide each other, so a mesh takes equally much of the room for smaller ones wherever it lies: it is enough that the meshes
    of each size and larger stay within the room for that size.
    """
    sizes, meshes = mesh_sizes(cluster), Counter(group)
    larger = ((size, sum(mesh * count for mesh, count in meshes.items() if mesh >= size)) for size in sizes)
    return meshes.keys() <= set(sizes) and all(devices <= room(cluster, size) for size, devices in larger)


def first_devices(group: MeshGroup, cluster: Cluster) -> list[int]:
    """Number of the first device of each mesh of a group that packs; node n has devices n * devices_per_node and on.

    Each lies in the first node with room for it. Larger ones come first, so that no mesh lies across a boundary of its own size.
    """
    used, first = [0] * cluster.nodes, []
    node = 0
    for i, size in enumerate(group):
        node = 0 if i and size < group[i - 1] else node
        while used[node] + size > cluster.devices_per_node:
            node += 1
        first.append(node * cluster.devices_per_node + used[node])
        used[node] += size
    return first


def mesh_groups(cluster: Cluster, *, grain: int = 1) -> Iterator[MeshGroup]:
    """Groups that use every device, each once, the largest meshes first.

    Args:
      grain: each size above one gets a multiple of so many devices (rounded up to a mesh).
    """
    sizes = mesh_sizes(cluster)

    def cut(above: MeshGroup, smaller: tuple[int, ...]) -> Iterator[MeshGroup]:
        used = sum(above)
        if smaller == (1,):
            yield above + (1,) * (cluster.devices - used)
            return
        size = smaller[0]
        most = (room(cluster, size) - used) // size
        step = max(1, grain // size)
        for count in sorted({*range(0, max(most, 0) + 1, step)}, reverse=True):
            yield from cut(above + (size,) * count, smaller[1:])

    return cut((), sizes)


def groups_with_idle_devices(cluster: Cluster) -> Iterator[MeshGroup]:
    """All other groups: what remains of a full one without some of its meshes of one device."""
    for group in mesh_groups(cluster):
        larger = tuple(size for size in group if size > 1)
        for ones in reversed(range(len(group) - len(larger))):
            yield larger + (1,) * ones


def all_groups(cluster: Cluster) -> Iterator[MeshGroup]:
    """Full ones first."""
    return itertools.chain(mesh_groups(cluster), groups_with_idle_devices(cluster))


def few_groups(cluster: Cluster, most: int) -> tuple[tuple[MeshGroup, ...], int]:
    """All full groups, or, where they are over `most`, those of the finest grain that makes so few; and that grain."""
    grain = 1
    while True:
        groups = tuple(itertools.islice(mesh_groups(cluster, grain=grain), most + 1))
        if len(groups) <= most or grain > cluster.devices:
            return groups[:most], grain
        grain *= 2


def neighbours(group: MeshGroup, cluster: Cluster, grain: int) -> Iterator[MeshGroup]:
    """Full groups that cut `grain` devices, or what one mesh has if that is more, into another size."""
    sizes = mesh_sizes(cluster)
    counts = {size: group.count(size) for size in sizes}
    for source, target in itertools.permutations(sizes, 2):
        moved = max(grain, source, target)
        changed = counts | {source: counts[source] - moved // source, target: counts[target] + moved // target}
        if changed[source] >= 0 and packs(as_group(changed), cluster):
            yield as_group(changed)


def as_group(counts: Mapping[int, int]) -> MeshGroup:
    """The group of so many meshes by size."""
    return tuple(size for size in sorted(counts, reverse=True) for _ in range(counts[size]))
