"""A request on its way through a unit, and collections of them by age."""

import enum
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import numpy as np

from muxjax.cache.prefix import Chain
from muxjax.engine.executor import SAMPLING, sampling_row
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.token_controls import TokenControls
from muxjax.types import Ints, Request

NO_SLOT = 2**31 - 1


class Stage(enum.Enum):
    """Where a sequence stands; from PREFILLING on it has a slot and its prompt's blocks."""

    NEW = enum.auto()
    WAITING = enum.auto()
    PREFILLING = enum.auto()
    DECODING = enum.auto()
    ENDED = enum.auto()


@dataclass(slots=True, eq=False)
class Sequence:
    """A request on its way.

    Args:
      tokens: prompt first; while it has a slot, its tokens are in the model's `SlotText`.
      sampling: a SAMPLING record.
      stops: int32, the tokens that end it.
      chain: names of its full columns, as far as anybody has asked for them.
      slot: its place in the model's tables, NO_SLOT while it has none. An ended one keeps it while a step in flight computes for it.
      controls: logits processors and the like; None for most.
      adapter_weights: held for as long as they may be wanted; None for most.
    """

    request: Request
    tokens: Ints
    chain: Chain
    sampling: np.void
    stops: Ints
    stage: Stage = Stage.NEW
    slot: int = NO_SLOT
    controls: TokenControls | None = None
    adapter_weights: object = None

    @classmethod
    def of(cls, request: Request, config: ModelConfig) -> "Sequence":
        """Converts all that a client has sent: what cannot be computed with raises here, where nothing has been taken for it."""
        tokens, sampling = np.array(request.prompt + request.begun, np.int32), request.sampling
        if tokens.min() < 0 or tokens.max() >= config.vocab:
            raise ValueError(f"a token of the prompt is none of the {config.vocab} of its model")
        ends = config.grammars.eos_ids if config.grammars and sampling.grammar else ()
        return cls(
            request,
            tokens,
            Chain.of(request, config.layout.tokens_per_block),
            np.array([sampling_row(sampling)], SAMPLING)[0],
            np.array(sorted(sampling.stop_token_ids.union(ends)), np.int32),
            controls=TokenControls.of(request, config.grammars, config.vocab),
            adapter_weights=config.hold_adapter(request.adapter) if config.hold_adapter and request.adapter else None,
        )

    @property
    def has_begun(self) -> bool:
        """Its first token is there; it may wait all the same, pre-empted."""
        return len(self.tokens) > len(self.request.prompt)

    @property
    def age(self) -> tuple[float, str]:
        """Smaller is older; no two are equal."""
        return self.request.due_s, self.request.id


def _age(sequence: Sequence) -> tuple[float, str]:
    return sequence.age


class ByAge:
    """Sequences, oldest first."""

    def __init__(self):
        self._items: list[Sequence] = []
        self._slots: Ints | None = None  # cached until one comes or goes

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._items)

    def __getitem__(self, index: int) -> Sequence:
        return self._items[index]

    @property
    def oldest_s(self) -> float:
        """When the first was due, infinity of none."""
        return self._items[0].request.due_s if self._items else inf

    def __contains__(self, sequence: Sequence) -> bool:
        index = bisect_left(self._items, sequence.age, key=_age)
        return index < len(self._items) and self._items[index] is sequence

    def first(self, count: int) -> list[Sequence]:
        return self._items[:count]

    @property
    def slots(self) -> Ints:
        """[len] int32, oldest first."""
        if self._slots is None:
            self._slots = np.fromiter((sequence.slot for sequence in self._items), np.int32, len(self._items))
        return self._slots

    def add(self, sequence: Sequence) -> None:
        insort(self._items, sequence, key=_age)
        self._slots = None

    def remove(self, sequence: Sequence) -> None:
        index = bisect_left(self._items, sequence.age, key=_age)
        assert self._items[index] is sequence
        del self._items[index]
        self._slots = None
