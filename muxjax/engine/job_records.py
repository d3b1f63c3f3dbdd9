"""The jobs of a unit as they end, for whoever watches: the page, traces, metrics."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from muxjax.engine.executor import Done, Step
from muxjax.engine.lane_times import LaneTimes
from muxjax.scheduler.view import Job

_MOST_OPEN = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job that has ended.

    Args:
      phase: "prefill", "decode", or "mixed" where it had rows of both.
      lane: that it ran on.
      start_s: when it was launched, or when the job before it on its lane ended, if that was later: jobs of a lane never overlap.
      rows: sequences; tokens: new ones of all of them.
      prefills: ids of the requests of which it computed prompt tokens.
      padding: tokens computed beside its own.
      sm_share: multiprocessors that it was to keep to; None for all.
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


OnJob = Callable[[JobRecord], None]


class _Launch(NamedTuple):
    """A step that has not ended, its job, and when it was launched."""

    step: Step
    job: Job
    at_s: float


class JobRecorder:
    """Pairs the launch of each step with its end.

    Args:
      on_job: told of each job that ends, in the engine's thread: it must neither wait nor raise.
    """

    def __init__(self, on_job: OnJob):
        self._on_job = on_job
        self._open: dict[int, _Launch] = {}
        self._times = LaneTimes()

    def launched(self, step: Step, job: Job, at_s: float) -> None:
        self._open[step.id] = _Launch(step, job, at_s)
        if len(self._open) > _MOST_OPEN:  # steps that never ended
            del self._open[next(iter(self._open))]

    def finished(self, done: Iterable[Done]) -> None:
        for step_done in done:
            launch = self._open.pop(step_done.step_id, None)
            if launch is not None:
                self._on_job(self._record(launch, step_done))

    def _record(self, launch: _Launch, done: Done) -> JobRecord:
        (step, job, launched_s), end_s = launch, done.at_s
        return JobRecord(
            model=step.model,
            phase=_phase(step),
            lane=step.lane,
            start_s=self._times.began_s(step.lane, launched_s, end_s),
            end_s=end_s,
            rows=len(step.slots),
            tokens=len(step.tokens),
            prefills=tuple(chunk.request_id for chunk in job.chunks),
            padding=done.padding_tokens,
            sm_share=step.sm_share,
        )


def _phase(step: Step) -> str:
    if not step.decodes:
        return "prefill"
    return "decode" if step.decodes == len(step.slots) else "mixed"
