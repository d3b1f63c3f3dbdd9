"""What a Ray cluster offers, as values, and whether units fit into it: pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muxjax.cluster.launcher import cpu_flags, told_cpu
from muxjax.cluster.plan import UnitSpec

GPU, CPU = "GPU", "CPU"
"""Ray's resources that a unit's device may be."""
_PASSED_ON = ("JAX_", "XLA_")
"""Beginnings of the front's variables that its workers get too."""


@dataclass(frozen=True, slots=True)
class Node:
    """A living host of the cluster, and how many devices of the kind it has in all."""

    host: str
    devices: int


def device_kind(told: Sequence[Mapping[str, Any]], environment: Mapping[str, str]) -> str:
    """GPU or CPU, as JAX_PLATFORMS says; else whatever the best of the cluster is.

    Args:
      told: by `ray.nodes`.
    """
    told_to = told_cpu(environment)
    if told_to is not None:
        return CPU if told_to else GPU
    return GPU if any(node.devices for node in nodes(told, GPU)) else CPU


def nodes(told: Iterable[Mapping[str, Any]], kind: str) -> tuple[Node, ...]:
    """The living ones of what `ray.nodes` tells."""
    return tuple(Node(each["NodeManagerAddress"], int(each["Resources"].get(kind, 0))) for each in told if each["Alive"])


def lacking(specs: Iterable[UnitSpec], there: Iterable[Node], kind: str) -> str:
    """Why these units cannot all be served by these nodes; empty if nothing speaks against it."""
    meshes, counts = [len(spec.devices) for spec in specs], [node.devices for node in there]
    widest, largest = max(meshes), max(counts, default=0)
    if widest > largest:
        return f"a unit needs {widest} {kind}s on one node, and the largest node of the cluster has {largest}"
    if sum(meshes) > sum(counts):
        return f"the placement needs {sum(meshes)} {kind}s, and the cluster has {sum(counts)}"
    return ""


def environment(kind: str, devices: int, outer: Mapping[str, str]) -> dict[str, str]:
    """Variables of a worker of so many devices, beyond its host's; which GPUs it sees is Ray's to say."""
    inner = {name: value for name, value in outer.items() if name.startswith(_PASSED_ON)}
    if kind == CPU:
        inner |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": cpu_flags(outer, devices)}
    return inner
