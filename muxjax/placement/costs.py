"""Seconds of a step, as placement asks for them: of a table of measurements or of the roofline."""

from dataclasses import dataclass
from typing import Protocol

from muxjax.placement import cost
from muxjax.placement.cost import MeshSpec
from muxjax.types import ModelSpec


class Costs(Protocol):
    """Seconds of one step alone on its mesh."""

    def prefill_s(self, spec: ModelSpec, mesh: MeshSpec, tokens: int, context: float) -> float:
        """Of so many new tokens, each of which attends to `context` positions in the mean.

        Raises:
          ConfigError: mesh.tp does not divide the kv heads.
        """
        ...

    def decode_s(self, spec: ModelSpec, mesh: MeshSpec, batch: int, context_tokens: int) -> float:
        """Of one token for each of a batch; context_tokens are summed over it.

        Raises:
          ConfigError: mesh.tp does not divide the kv heads.
        """
        ...


@dataclass(frozen=True, slots=True)
class Roofline:
    """`Costs` of any shape on any chip, measured or not."""

    def prefill_s(self, spec: ModelSpec, mesh: MeshSpec, tokens: int, context: float) -> float:
        return cost.prefill(spec, mesh, tokens, context).total_s

    def decode_s(self, spec: ModelSpec, mesh: MeshSpec, batch: int, context_tokens: int) -> float:
        return cost.decode(spec, mesh, batch, context_tokens).total_s
