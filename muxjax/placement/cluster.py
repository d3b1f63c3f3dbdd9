"""The ways to cut a cluster into meshes: powers of two of devices, each within a node."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from muxjax.placement.problem import Cluster, Pool


class Mesh(NamedTuple):
    """So many devices of a node of that pool."""

    devices: int
    pool: int = 0


MeshGroup = tuple[Mesh, ...]
"""Meshes, the largest first, then by pool; equal groups are equal values."""


def mesh_sizes(pool: Pool) -> tuple[int, ...]:
    """Devices that a mesh can have, descending."""
    largest = min(pool.devices_per_node, pool.devices)
    return tuple(2**power for power in reversed(range(largest.bit_length())))


def room(pool: Pool, size: int) -> int:
    """Most devices of the pool that meshes of that size, or larger ones, can cover."""
    return min(pool.nodes * (pool.devices_per_node // size) * size, pool.devices)


def packs(group: Iterable[Mesh] | Mapping[Mesh, int], cluster: Cluster) -> bool:
    """Whether the nodes hold these meshes, or so many of each, side by side."""
    meshes = Counter(group)
    by_pool = [{mesh.devices: count for mesh, count in meshes.items() if mesh.pool == at} for at in range(len(cluster.pools))]
    return sum(map(len, by_pool)) == len(meshes) and all(map(_packs, by_pool, cluster.pools))


def _packs(counts: Mapping[int, int], pool: Pool) -> bool:
    """Whether the pool does, by size.

    Sizes divide each other, so a mesh takes equally much of the room for smaller ones wherever it lies: it is enough that the meshes
    of each size and larger stay within the room for that size.
    """
    sizes = mesh_sizes(pool)
    larger = ((size, sum(mesh * count for mesh, count in counts.items() if mesh >= size)) for size in sizes)
    return counts.keys() <= set(sizes) and all(devices <= room(pool, size) for size, devices in larger)


def first_devices(group: MeshGroup, cluster: Cluster) -> list[int]:
    """Number of the first device of each mesh of a group that packs; node n of a pool has its devices n * devices_per_node and on.

    Each lies in the first node with room for it. Larger ones come first, so that no mesh lies across a boundary of its own size.
    """
    used = [[0] * pool.nodes for pool in cluster.pools]
    first, begin = [], dict[Mesh, int]()
    for mesh in group:
        size, width = mesh.devices, cluster.pools[mesh.pool].devices_per_node
        node = begin.get(mesh, 0)  # those before it have no room for its like
        while used[mesh.pool][node] + size > width:
            node += 1
        begin[mesh] = node
        first.append(cluster.first(mesh.pool) + node * width + used[mesh.pool][node])
        used[mesh.pool][node] += size
    return first


def mesh_groups(cluster: Cluster, *, grain: int = 1) -> Iterator[MeshGroup]:
    """Groups that use every device, each once, the largest meshes first.

    Args:
      grain: each size above one gets a multiple of so many devices (rounded up to a mesh).
    """

    def cut(at: int) -> Iterator[MeshGroup]:
        """Of the pools from there on."""
        if at == len(cluster.pools):
            yield ()
            return
        for sizes in _cuts(cluster.pools[at], grain):
            for rest in cut(at + 1):
                yield (*(Mesh(size, at) for size in sizes), *rest)

    return map(in_order, cut(0)) if len(cluster.pools) > 1 else cut(0)


def _cuts(pool: Pool, grain: int) -> Iterator[tuple[int, ...]]:
    """As `mesh_groups`, of one pool."""
    sizes = mesh_sizes(pool)

    def cut(above: tuple[int, ...], smaller: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        used = sum(above)
        if smaller in ((1,), ()):
            yield above + (1,) * (pool.devices - used)
            return
        size = smaller[0]
        most = (room(pool, size) - used) // size
        step = max(1, grain // size)
        for count in sorted({*range(0, max(most, 0) + 1, step)}, reverse=True):
            yield from cut(above + (size,) * count, smaller[1:])

    return cut((), sizes)


def groups_with_idle_devices(cluster: Cluster) -> Iterator[MeshGroup]:
    """All other groups: what remains of a full one without some of its meshes of one device."""
    for group in mesh_groups(cluster):
        counts = dict(Counter(group))
        ones = [mesh for mesh in counts if mesh.devices == 1]
        for left in itertools.product(*(reversed(range(counts[mesh] + 1)) for mesh in ones)):
            rest = as_group(counts | dict(zip(ones, left, strict=True)))
            if rest and rest != group:
                yield rest


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
    """Full groups that cut `grain` devices of a pool, or what one mesh has if that is more, into another size."""
    counts = {Mesh(size, at): group.count((size, at)) for at, pool in enumerate(cluster.pools) for size in mesh_sizes(pool)}
    for at, pool in enumerate(cluster.pools):
        for source, target in itertools.permutations(mesh_sizes(pool), 2):
            moved = max(grain, source, target)
            less, more = Mesh(source, at), Mesh(target, at)
            changed = counts | {less: counts[less] - moved // source, more: counts[more] + moved // target}
            if changed[less] >= 0 and packs(as_group(changed), cluster):
                yield as_group(changed)


def as_group(counts: Mapping[Mesh, int]) -> MeshGroup:
    """The group of so many meshes of each kind."""
    return tuple(mesh for mesh in sorted(counts, key=_order) for _ in range(counts[mesh]))


def in_order(meshes: Iterable[Mesh]) -> MeshGroup:
    """The group of those meshes."""
    return tuple(sorted(meshes, key=_order))


def _order(mesh: Mesh) -> tuple[int, int]:
    return -mesh.devices, mesh.pool
