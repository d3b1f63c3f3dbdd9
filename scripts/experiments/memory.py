"""What of a GPU's memory is left for tokens, when models share a process and when each has one of its own: pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from muxjax.model_spec import ModelSpec

ITEM_BYTES = 2
"""Of a weight that is not quantised, and of a number in the cache unless that is told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a model takes.

    Args:
      weight_bytes: of its weights; token_bytes: of a token in the cache.
    """

    weight_bytes: int
    token_bytes: int

    @classmethod
    def of(cls, spec: ModelSpec, *, kv_bytes: int = ITEM_BYTES) -> "Needs":
        """By its shape; kv_bytes: of a number in the cache, 1 of FP8."""
        return cls(weight_bytes=int(spec.weight_bytes(ITEM_BYTES)), token_bytes=spec.layers * spec.kv_elements * kv_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A GPU and what a process takes of its memory beside weights and cache.

    Args:
      total_bytes: what processes may have together; process_bytes: one process with one model; shared_bytes: one with several.
      least_tokens: room that a model must have to be served at all.
    """

    total_bytes: int
    process_bytes: int
    shared_bytes: int
    least_tokens: int


def apart_tokens(card: Card, models: Sequence[Needs]) -> float:
    """Tokens that each could have in a process and with a cache of its own, each the same number; negative if they do not fit."""
    left = card.total_bytes - sum(model.weight_bytes + card.process_bytes for model in models)
    return left / sum(model.token_bytes for model in models)


def together_tokens(card: Card, models: Sequence[Needs], of: Needs) -> float:
    """Tokens that one of them could have while the others rest, in one process with one cache; negative if they do not fit."""
    left = card.total_bytes - card.shared_bytes - sum(model.weight_bytes for model in models)
    return left / of.token_bytes


def most_apart(card: Card, model: Needs) -> int:
    """So many alike fit, each with room for the least."""
    return max(0, card.total_bytes // (model.weight_bytes + card.process_bytes + card.least_tokens * model.token_bytes))


def most_together(card: Card, model: Needs) -> int:
    """So many alike fit, with room for the least of each at once."""
    return max(0, (card.total_bytes - card.shared_bytes) // (model.weight_bytes + card.least_tokens * model.token_bytes))


def cards_apart(card: Card, models: Sequence[Needs]) -> int:
    """GPUs that a process a model needs, first fit by falling size; 0 where a model does not fit on one."""
    takes = sorted((model.weight_bytes + card.process_bytes + card.least_tokens * model.token_bytes for model in models), reverse=True)
    left: list[int] = []
    for one in takes:
        if one > card.total_bytes:
            return 0
        place = next((i for i, free in enumerate(left) if free >= one), None)
        if place is None:
            left.append(card.total_bytes - one)
        else:
            left[place] -= one
    return len(left)
