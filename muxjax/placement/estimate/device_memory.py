"""Room for the cache on the devices of a unit, beside the weights."""

from collections.abc import Sequence
from dataclasses import dataclass

from muxjax.cache.layout import BLOCK_BYTES
from muxjax.errors import ConfigError
from muxjax.placement.problem import UnitPlan
from muxjax.units import show_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Memory that an LLM takes of each of its devices: its weights, and head blocks for a whole sequence of mean lengths."""

    weight_bytes: int
    sequence_blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`count` devices that have the same LLMs.

    Args:
      members: positions in the unit; blocks: head blocks of each device.
    """

    members: tuple[int, ...]
    count: int
    blocks: int


def shares(unit: UnitPlan, held: Sequence[Held], device_bytes: int) -> list[Share]:
    """The devices of the unit by who is on them.

    Args:
      held: of the unit's members, in their order.
    Raises:
      ConfigError: on a device, weights and the longest of the mean sequences do not fit.
    """
    on: list[list[int]] = [[] for _ in range(unit.devices)]
    for i, placed in enumerate(unit.members):
        for device in placed.devices:
            on[device].append(i)
    groups = [tuple(members) for members in on]
    return [
        Share(members=members, count=groups.count(members), blocks=_blocks(unit, members, held, device_bytes))
        for members in dict.fromkeys(groups)
    ]


def _blocks(unit: UnitPlan, members: Sequence[int], held: Sequence[Held], have_bytes: int) -> int:
    """Head blocks on one device beside the weights of those LLMs."""
    weights = sum(held[i].weight_bytes for i in members)
    need = weights + BLOCK_BYTES * max((held[i].sequence_blocks for i in members), default=0)
    if need > have_bytes:
        names = ", ".join(unit.members[i].model for i in members)
        raise ConfigError(
            f"weights and a sequence of {names} need {show_bytes(need)} on a device of {show_bytes(have_bytes)}", field="devices"
        )
    return (have_bytes - weights) // BLOCK_BYTES
