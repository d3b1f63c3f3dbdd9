"""All that a policy may know, and what it may decide."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from muxjax.scheduler.pace import UNKNOWN, Pace
from muxjax.types import Quotas

TOKEN_GRAIN = 8
"""Each chunk of a job uses up a multiple of so many tokens of the budget: attention reads queries in groups of eight, and rows begin
at multiples of eight in a packed step."""
SHARED_TOKENS = 1024
"""Prompt tokens from which a step may keep to a share of the multiprocessors: one with fewer is over soon, and its tiles are too few to
be dealt out evenly."""


def grains(count: Any) -> Any:
    """Rounded up to TOKEN_GRAIN: a number, or an array of numpy or jax.numpy."""
    return -(-count // TOKEN_GRAIN) * TOKEN_GRAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A request with tokens still to prefill.

    Args:
      arrival_s: moved by its priority, as everywhere in a view.
      tokens: left to prefill, at least 1, less those that are in the cache.
      blocks: head blocks its admission takes (for the whole prompt, at once, less those it shares); 0 when it has been admitted.
    """

    request_id: str
    arrival_s: float
    tokens: int
    blocks: int

    @property
    def admitted(self) -> bool:
        return self.blocks == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """An admitted request: what pre-empting it would give back.

    Args:
      blocks: in its tables; of these, the ones that others have too stay with them.
      idle: no job in flight computes for it, so that it can be pre-empted now.
    """

    request_id: str
    arrival_s: float
    blocks: int
    idle: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """One model of a unit.

    Args:
      ready: another job of it may be launched now.
      in_flight: jobs of it launched and not yet recorded; prefills_in_flight: those among them with chunks.
      pending: requests to prefill, the admitted ones first, then in the order in which they are to be admitted; at most the unit's
        max_rows.
      free_slots: sequences that may still be admitted.
      decoding: sequences whose next token fits into the blocks they hold.
      growing: sequences whose next token needs one more column.
      column_blocks: head blocks of one column.
      held_blocks: head blocks its sequences hold, each counted once.
      quota_blocks: head blocks it may own; a policy without quotas does not read it.
      floor_blocks: its quota is never moved below this.
      running: number of admitted sequences.
      weight: its share against the other models.
      lane: stream of the device that its jobs run on, in order; a plan may count on jobs of different lanes running beside each other.
      oldest_s: arrival of its oldest unfinished request, infinity if there is none.
      youngest: its youngest admitted request.
      pace: how long its steps take.
      tpot_s: target of the mean time between tokens; None for none.
      ttft_s: target of the time to a first token; None for none.
      step_sizes: tokens that its steps with prompts are padded to, ascending; none where that is not known.
      sm_shares: multiprocessors that the products of its steps with SHARED_TOKENS or more may keep to, ascending, all of them last; none
        where they always use all.
      last_prefill, last_decode: number in the unit of its last job that did so, 0 before the first.
    """

    name: str
    ready: bool
    in_flight: int
    pending: tuple[Pending, ...]
    waiting: int
    free_slots: int
    decoding: int
    growing: int
    column_blocks: int
    held_blocks: int
    quota_blocks: int
    floor_blocks: int
    running: int
    oldest_s: float
    youngest: Running | None
    last_prefill: int
    last_decode: int
    prefills_in_flight: int = 0
    weight: float = 1.0
    lane: int = 0
    pace: Pace = UNKNOWN
    tpot_s: float | None = None
    ttft_s: float | None = None
    step_sizes: tuple[int, ...] = ()
    sm_shares: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A unit at one moment.

    Args:
      quota_age_s: since quotas were last moved.
      free_blocks: that may be taken, those among them that are kept in case they are of use again.
      token_budget: most tokens of one job's chunks, each rounded up to TOKEN_GRAIN; tokens that it decodes come on top.
      shared_budget: the same while another model has sequences that run; None for no other.
      max_rows: most chunks of one job.
    """

    now_s: float
    quota_age_s: float
    free_blocks: int
    total_blocks: int
    token_budget: int
    max_rows: int
    models: tuple[ModelView, ...]
    shared_budget: int | None = None

    @property
    def prefill_in_flight(self) -> bool:
        """A job with chunks of some model is executing."""
        return any(model.prefills_in_flight for model in self.models)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The next tokens of a pending request."""

    request_id: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One step of a model, which reads its weights once: a prefill, a decode, or both.

    Args:
      chunks: of some pending requests, one each; a waiting one is admitted by it.
      decode: a token for every decoding sequence, and for the oldest `grow` of the growing ones. A sequence whose last chunk is in
        this job is not one of them.
      lane: its model's.
      sm_share: multiprocessors that its products are to keep to, so that other lanes have the rest; None for all.
    """

    model: str
    chunks: tuple[Chunk, ...] = ()
    decode: bool = False
    grow: int = 0
    lane: int = 0
    sm_share: int | None = None

    def __post_init__(self):
        if not (self.chunks or self.decode) or (self.grow and not self.decode):
            raise ValueError(f"a job of {self.model} that does nothing, or grows sequences it does not decode")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """Decision of a policy: what a unit does next.

    Args:
      jobs: launched in this order; blocks are taken in this order.
      preempt: idle admitted requests that give their blocks back first, keeping their tokens.
      quotas: replaces the quotas of the models it names.
    """

    jobs: tuple[Job, ...] = ()
    preempt: tuple[str, ...] = ()
    quotas: Quotas = field(default_factory=dict[str, int])


Policy = Callable[[View], StepPlan]
