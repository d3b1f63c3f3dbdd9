"""Cost model: what placement and simulation ask, be it answered by a roofline or by a table of measurements."""

from typing import Protocol

from muxjax.cost.chip import MeshSpec
from muxjax.model_spec import ModelSpec


class CostModel(Protocol):
    """Seconds of one step alone on its mesh."""

    def prefill_s(self, spec: ModelSpec, mesh: MeshSpec, tokens: int, context: float) -> float:
        """Seconds of a step of so many new tokens, each of which attends to `context` positions in the mean.

        Raises:
          ConfigError: mesh.tp does not divide the kv heads.
        """
        ...

    def decode_s(self, spec: ModelSpec, mesh: MeshSpec, batch: int, context_tokens: int) -> float:
        """Seconds of a step of one token for each of a batch; context_tokens are summed over it.

        Raises:
          ConfigError: mesh.tp does not divide the kv heads.
        """
        ...
