"""Border between the loop and whatever executes steps: a device, a worker process, or a simulation."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from muxjax.cache.table import TableDelta
from muxjax.engine.speculation.drafts import Drafts
from muxjax.engine.step_controls import StepControls, TopLogprobs
from muxjax.types import Floats, Ints, Phase, Sampling

SAMPLED = -1
"""In `Step.tokens`: the token which this slot's previous step sampled, which had no drafts; it may still be on the device."""


SAMPLING = np.dtype([("temperature", "f4"), ("top_k", "i4"), ("top_p", "f4"), ("min_p", "f4"), ("seed", "i8")])
"""Drawing of a row: the fields of `types.Sampling` that the device reads."""


def sampling_row(sampling: Sampling) -> tuple[float, ...]:
    """The values of a SAMPLING record."""
    return tuple(getattr(sampling, name) for name in SAMPLING.names or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One job with all that its execution needs; B rows, T new tokens packed row after row.

    Args:
      decodes: so many rows come first that decode, one token each, which is SAMPLED or known; the others are chunks of prefills.
      slots: [B] int32, the row's place in the model's tables.
      starts: [B] int32, tokens already in the cache: the position of the row's first new token.
      counts: [B] int32, new tokens of the row, at least 1; they sum to T.
      tokens: [T] int32, ids or SAMPLED.
      sampling: [B] SAMPLING.
      delta: what changed in the model's block tables since its previous step.
      lane: stream of the device that it runs on. Steps of one lane run in the order of their launch, different lanes beside each other;
        a model keeps its lane.
      sm_share: multiprocessors that its products are to keep to, where they can; None for all.
      controls: what rows want beyond `sampling`; None where none does.
      drafts: guesses of what follows the rows that decode, computed behind them; None where there are none.
    """

    id: int
    model: str
    decodes: int
    slots: Ints
    starts: Ints
    counts: Ints
    tokens: Ints
    sampling: np.ndarray
    delta: TableDelta
    lane: int = 0
    sm_share: int | None = None
    controls: StepControls | None = None
    drafts: Drafts | None = None

    @property
    def one_token_rows(self) -> int:
        """Rows that an executor computes as it decodes: those that do, and behind them each draft."""
        return self.decodes + (0 if self.drafts is None else len(self.drafts))

    @property
    def computed(self) -> int:
        """Tokens that it computes: those of its rows, and their drafts."""
        return len(self.tokens) + self.one_token_rows - self.decodes

    @property
    def phase(self) -> Phase:
        """PREFILL if any row is a chunk of one."""
        return Phase.PREFILL if self.decodes < len(self.slots) else Phase.DECODE


NO_TOKEN = -1
"""In `Done.tokens`: the logits were not finite."""

NOTHING_LEFT = -2
"""In `Done.tokens`: the row's controls forbid every token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Failure of a step, for which its model is to blame.

    Args:
      lost_models: nothing that was in these models' head blocks is there any more, and none of their other steps in flight will finish:
        the models of the step's lane, if the step took with it what it was to write to.
    """

    what: str
    lost_models: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A finished step, or what went wrong: the tokens sampled after each row's last new token and, behind them, after each draft, [B + Y].

    Args:
      padding_tokens: computed beside the step's own, to fill the size of step that it ran as.
      logprobs: of those tokens where `StepControls.logprobs` is true; prompt_logprobs: of `StepControls.follow`, [T].
      hidden: [B + Y, M] float32, sums of hidden states as of `StepControls.pool`.
    """

    step_id: int
    tokens: Ints
    at_s: float
    fault: Fault | None = None
    padding_tokens: int = 0
    logprobs: TopLogprobs | None = None
    prompt_logprobs: TopLogprobs | None = None
    hidden: Floats | None = None


class Executor(Protocol):
    """Steps finish in an order of the executor's own; those of one lane, and so of one model, in the order they were launched.

    What goes wrong with one step is told by `Done.fault`. An executor that raises has lost its device, or has a defect.
    """

    def launch(self, step: Step) -> None:
        """Starts a step, or sees to it that it starts later; never waits for one."""
        ...

    def collect(self, *, wait: bool) -> list[Done]:
        """Finished steps not collected before; with `wait`, at least one if any is in flight."""
        ...


class WakeableExecutor(Executor, Protocol):
    """An executor for requests that come while it waits."""

    def wake(self) -> None:
        """From any thread: `collect` does not wait for a step any more, if another one could be launched beside those in flight."""
        ...
