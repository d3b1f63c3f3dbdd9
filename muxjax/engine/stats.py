"""A unit's state in numbers, for people and for Prometheus."""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from muxjax.engine.executor import Step
from muxjax.engine.speculation.drafts import Drafts

ONLY_UNIT = "0"
"""Name of a unit where there is but one."""


class Status(enum.StrEnum):
    """Openness of a model to requests: READY takes them; the others have none, but DRAINING, whose last ones are on their way."""

    READY = "ready"
    DRAINING = "draining"
    ASLEEP = "asleep"
    FAILED = "failed"

    @property
    def serves(self) -> bool:
        """A model of this status has its weights, and blocks are for it too."""
        return self in (Status.READY, Status.DRAINING)


class Tally:
    """Counts of what a model has done so far. A token counts for the phase of its row, a step for the set of its rows' phases.

    last_prefill, last_decode: id of the last step with rows of that phase, 0 before the first; the others as in `ModelStats`.
    """

    def __init__(self):
        self.last_prefill = self.last_decode = 0
        self.prefill_steps = self.decode_steps = self.mixed_steps = 0
        self.prefill_tokens = self.decode_tokens = 0
        self.preemptions = 0
        self.prefix_queries = self.prefix_hits = 0
        self.drafts = self.draft_tokens = self.accepted_tokens = 0

    def look_up(self, prompt_tokens: int, cached_tokens: int) -> None:
        """A request was admitted."""
        self.prefix_queries += prompt_tokens
        self.prefix_hits += cached_tokens

    def add(self, step: Step) -> None:
        """A step was launched."""
        decodes, prefills = step.decodes, len(step.tokens) - step.decodes
        self.prefill_tokens += prefills
        self.decode_tokens += decodes
        if prefills:
            self.last_prefill = step.id
        if decodes:
            self.last_decode = step.id
        self.prefill_steps += not decodes
        self.decode_steps += not prefills
        self.mixed_steps += bool(prefills and decodes)

    def verify(self, drafts: Drafts, accepted: int) -> None:
        """A step has sampled behind drafts, of which so many were right: as many tokens more than its rows."""
        self.drafts += drafts.sequences
        self.draft_tokens += len(drafts)
        self.accepted_tokens += accepted
        self.decode_tokens += accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStats:
    """One model at one moment; what counts what happened only ever grows.

    Args:
      running: admitted sequences; waiting: those that are not.
      held_blocks: head blocks its sequences hold; peak_blocks: the most they ever did; quota_blocks: what it may hold.
      cached_blocks: head blocks of its ended sequences, for others that begin alike, which count as free.
      evicted_blocks: how many of these have gone.
      prefix_queries: prompt tokens of admitted requests; prefix_hits: of these, that were in the cache already.
      column_blocks: head blocks of tokens_per_block tokens of one sequence.
      prefill_steps, decode_steps: steps of rows of that phase alone; mixed_steps: steps of rows of both.
      prefill_tokens, decode_tokens: tokens of rows of that phase, in whichever steps.
      lane: that its steps run on.
      drafts: rows of steps with drafts; draft_tokens: of all of them; accepted_tokens: those of them that became part of an answer.
    """

    name: str
    running: int
    waiting: int
    held_blocks: int
    cached_blocks: int
    peak_blocks: int
    quota_blocks: int
    preemptions: int
    prefix_queries: int
    prefix_hits: int
    evicted_blocks: int
    max_model_len: int
    tokens_per_block: int
    column_blocks: int
    prefill_steps: int
    decode_steps: int
    mixed_steps: int
    prefill_tokens: int
    decode_tokens: int
    status: Status = Status.READY
    lane: int = 0
    drafts: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitStats:
    """A unit at one moment: its arena, and its models in the order of the configuration."""

    total_blocks: int
    free_blocks: int
    block_bytes: int
    models: tuple[ModelStats, ...]


_SUMMED = (
    *("running", "waiting", "held_blocks", "cached_blocks", "peak_blocks", "quota_blocks", "preemptions"),
    *("prefix_queries", "prefix_hits", "evicted_blocks", "drafts", "draft_tokens", "accepted_tokens"),
    *("prefill_steps", "decode_steps", "mixed_steps", "prefill_tokens", "decode_tokens"),
)


def merged(units: Iterable[UnitStats]) -> UnitStats:
    """Counts of several units together, those of a model that several have added up."""
    units = tuple(units)
    models: dict[str, ModelStats] = {}
    for unit in units:
        for model in unit.models:
            models[model.name] = _sum(models[model.name], model) if model.name in models else model
    return UnitStats(
        total_blocks=sum(unit.total_blocks for unit in units),
        free_blocks=sum(unit.free_blocks for unit in units),
        block_bytes=max((unit.block_bytes for unit in units), default=0),
        models=tuple(models.values()),
    )


def _sum(one: ModelStats, other: ModelStats) -> ModelStats:
    counts: Mapping[str, int] = {name: getattr(one, name) + getattr(other, name) for name in _SUMMED}
    status = one.status if one.status is Status.READY else other.status
    return replace(one, **counts, status=status)
