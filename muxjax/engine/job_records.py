"""The jobs of a unit as they end, for whoever watches: the page, traces, metrics."""

from collections.abc import Callable
from dataclasses import dataclass

from muxjax.engine.executor import Done, Step
from muxjax.engine.stats import ONLY_UNIT


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job that has ended.

    Args:
      phase: "prefill", "decode", or "mixed" where it had rows of both.
      lane: that it ran on.
      start_s: when it was launched, or when the job before it on its lane ended, if that was later: jobs of a lane never overlap.
      rows: sequences; tokens: new ones of all of them, and drafts.
      prefills: ids of the requests of which it computed prompt tokens.
      padding: tokens computed beside its own.
      sm_share: multiprocessors that it was to keep to; None for all.
      unit: that it ran on, where there are several.
    """

    model: str
    phase: str
    start_s: float
    end_s: float
    rows: int
    tokens: int
    prefills: tuple[str, ...]
    padding: int = 0
    lane: int = 0
    sm_share: int | None = None
    unit: str = ONLY_UNIT


OnJob = Callable[[JobRecord], None]


def job_record(step: Step, prefills: tuple[str, ...], start_s: float, done: Done) -> JobRecord:
    """The record of a step that has ended.

    Args:
      prefills: as of `JobRecord`.
    """
    return JobRecord(
        model=step.model,
        phase=_phase(step),
        lane=step.lane,
        start_s=start_s,
        end_s=done.at_s,
        rows=len(step.slots),
        tokens=step.computed,
        prefills=prefills,
        padding=done.padding_tokens,
        sm_share=step.sm_share,
    )


def _phase(step: Step) -> str:
    if not step.decodes:
        return "prefill"
    return "decode" if step.decodes == len(step.slots) else "mixed"
