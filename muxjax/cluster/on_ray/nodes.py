"""What a Ray cluster offers, as values, and whether units fit into it: pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muxjax.cluster.launcher import cpu_flags, told_cpu
from muxjax.cluster.plan import UnitSpec, family

GPU, CPU = "GPU", "CPU"
"""Ray's resources that a unit's device may be."""
ACCELERATOR = "accelerator_type:"
"""Beginning of the resource by which Ray tells what kind of devices a node has."""
_PASSED_ON = ("JAX_", "XLA_")
"""Beginnings of the front's variables that its workers get too."""
_A_LITTLE = 0.001
"""Of a resource that a node has or has not: one of it, which many units ask for."""


@dataclass(frozen=True, slots=True)
class Node:
    """A living host of the cluster, and how many devices of the kind it has in all.

    Args:
      accelerator: what they are by Ray's name, empty where it does not say.
    """

    host: str
    devices: int
    accelerator: str = ""

    def suits(self, chip: str) -> bool:
        """Whether its devices may be such chips, as of `Placement`."""
        return not self.accelerator or family(chip) in self.accelerator


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
    living = [(each["NodeManagerAddress"], each["Resources"]) for each in told if each["Alive"]]
    return tuple(Node(host, int(resources.get(kind, 0)), _accelerator(resources)) for host, resources in living)


def _accelerator(resources: Iterable[str]) -> str:
    return next((name.removeprefix(ACCELERATOR) for name in resources if name.startswith(ACCELERATOR)), "")


def bundle(spec: UnitSpec, there: Iterable[Node], kind: str) -> dict[str, float]:
    """Resources of a node that a unit is to be on: its devices, and their kind where Ray knows of nodes with such."""
    known = {node.accelerator for node in there if node.accelerator and node.suits(spec.chip)}
    wanted = {f"{ACCELERATOR}{min(known)}": _A_LITTLE} if spec.chip and len(known) == 1 else {}
    return {kind: len(spec.devices), **wanted}


def lacking(specs: Iterable[UnitSpec], there: Iterable[Node], kind: str) -> str:
    """Why these units cannot all be served by these nodes; empty if nothing speaks against it."""
    meshes, there = defaultdict[str, list[int]](list), list(there)
    for spec in specs:
        meshes[spec.chip].append(len(spec.devices))
    for chip, own in meshes.items():
        counts = [node.devices for node in there if node.suits(chip)]
        what = f"{chip} {kind}s".lstrip() if len(meshes) > 1 else f"{kind}s"
        widest, largest = max(own), max(counts, default=0)
        if widest > largest:
            return f"a unit needs {widest} {what} on one node, and the largest node of the cluster has {largest}"
        if sum(own) > sum(counts):
            return f"the placement needs {sum(own)} {what}, and the cluster has {sum(counts)}"
    return ""


def environment(kind: str, devices: int, outer: Mapping[str, str]) -> dict[str, str]:
    """Variables of a worker of so many devices, beyond its host's; which GPUs it sees is Ray's to say."""
    inner = {name: value for name, value in outer.items() if name.startswith(_PASSED_ON)}
    if kind == CPU:
        inner |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": cpu_flags(outer, devices)}
    return inner
