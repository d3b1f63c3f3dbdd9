"""A unit's state in numbers, for people and for Prometheus."""

from collections import Counter
from dataclasses import dataclass

from muxjax.engine.executor import Step
from muxjax.types import Phase


class Tally:
    """What a model has done so far. A token counts for the phase of its row, a step for the set of its rows' phases.

    last: id of the last step with rows of a phase, 0 before the first; tokens: by phase; steps: by their phases, in order.
    """

    def __init__(self):
        self.last = dict.fromkeys(Phase, 0)
        self.tokens = dict.fromkeys(Phase, 0)
        self.steps: Counter[tuple[Phase, ...]] = Counter()
        self.preemptions = 0

    def add(self, step: Step) -> None:
        """A step was launched."""
        tokens = {Phase.PREFILL: len(step.tokens) - step.decodes, Phase.DECODE: step.decodes}
        phases = tuple(phase for phase in Phase if tokens[phase])
        self.steps[phases] += 1
        for phase in phases:
            self.last[phase] = step.id
            self.tokens[phase] += tokens[phase]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStats:
    """One model at one moment; what counts steps, tokens or preemptions only ever grows.

    Args:
      running: admitted sequences; waiting: those that are not.
      held_blocks: head blocks its sequences own; peak_blocks: the most they ever did; quota_blocks: what it may own.
      column_blocks: head blocks of tokens_per_block tokens of one sequence.
      prefill_steps, decode_steps: of rows of that phase alone; mixed_steps: of rows of both.
      prefill_tokens, decode_tokens: of rows of that phase, in whichever steps.
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
    mixed_steps: int
    prefill_tokens: int
    decode_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitStats:
    """A unit at one moment: its arena, and its models in the order of the configuration."""

    total_blocks: int
    free_blocks: int
    block_bytes: int
    models: tuple[ModelStats, ...]
