"""A unit's state in numbers, for people and for Prometheus."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStats:
    """One model at one moment; what counts steps, tokens or preemptions only ever grows.

    Args:
      running: admitted sequences; waiting: those that are not.
      held_blocks: head blocks its sequences own; peak_blocks: the most they ever did; quota_blocks: what it may own.
      column_blocks: head blocks of tokens_per_block tokens of one sequence.
    """

    name: str
    running: int
    waiting: int
    held_blocks: int
    peak_blocks: int
    quota_blocks: int
    preemptions: int
    max_model_len: int
    tokens_per_block: int
    column_blocks: int
    prefill_steps: int
    decode_steps: int
    prefill_tokens: int
    decode_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitStats:
    """A unit at one moment: its arena, and its models in the order of the configuration."""

    total_blocks: int
    free_blocks: int
    block_bytes: int
    models: tuple[ModelStats, ...]
