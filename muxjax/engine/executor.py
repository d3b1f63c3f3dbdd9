"""What the loop asks of whatever executes steps: a device, lanes, or a simulation."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from muxjax.cache.table import TableDelta
from muxjax.types import Phase, Sampling

SAMPLED = -1
"""In `Step.tokens`: the token which this slot's previous step sampled; it may still be on the device."""


class SamplingRows(NamedTuple):
    """Sampling of each row, [B]; see `types.Sampling` for ranges."""

    temperature: np.ndarray
    top_k: np.ndarray
    top_p: np.ndarray
    min_p: np.ndarray
    seed: np.ndarray

    @classmethod
    def empty(cls, rows: int) -> "SamplingRows":
        return cls(*(np.zeros(rows, dtype) for dtype in (np.float32, np.int32, np.float32, np.float32, np.int64)))

    def put(self, row: int, sampling: Sampling) -> None:
        for name, column in self._asdict().items():
            column[row] = getattr(sampling, name)

    def take(self, slots: np.ndarray) -> "SamplingRows":
        return SamplingRows(*(column[slots] for column in self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One job with all that its execution needs; B rows, T new tokens packed row after row.

    Args:
      slots: [B] int32, the row's place in the model's tables.
      starts: [B] int32, tokens already in the cache: the position of the row's first new token.
      counts: [B] int32, new tokens of the row, at least 1; they sum to T.
      tokens: [T] int32, ids or SAMPLED.
      delta: what changed in the model's block tables since its previous step.
    """

    id: int
    model: str
    phase: Phase
    slots: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    tokens: np.ndarray
    sampling: SamplingRows
    delta: TableDelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A finished step: the token sampled after each row's last new token, [B]."""

    step_id: int
    tokens: np.ndarray
    at_s: float


class Executor(Protocol):
    """Steps finish in an order of the executor's own; those of one model in the order they were launched."""

    def launch(self, step: Step) -> None:
        """Starts a step; never waits for one."""
        ...

    def collect(self, *, wait: bool) -> list[Done]:
        """Finished steps not collected before; with `wait`, at least one if any is in flight."""
        ...
