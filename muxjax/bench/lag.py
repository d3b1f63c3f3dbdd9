"""Whether the client kept up: a run in which it fell behind says nothing of the server."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from muxjax.bench.records import Run

LIMIT_S = 0.01
LIMIT_FRAC = 0.05
"""Of the median time to the first token, where that is more: a client that is late by so little changes no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How late the client was.

    Args:
      sent_s: 99th percentile of how long after its time a request was sent.
      loop_s: the same of how late the client's loop came to what was due, such as tokens that had come; the worst of the runs.
      limit_s: at most which a run is valid.
    """

    sent_s: float
    loop_s: float
    limit_s: float

    @property
    def valid(self) -> bool:
        return max(self.sent_s, self.loop_s) <= self.limit_s


def lag_of(runs: Sequence[Run]) -> Lag:
    """The lag of runs together."""
    records = [record for run in runs for record in run.records]
    late_s = [record.sent_s - record.intended_s for record in records]
    firsts_s = [record.first_s - record.intended_s for record in records if record.first_s is not None]
    return Lag(
        sent_s=float(np.percentile(late_s, 99)) if late_s else 0.0,
        loop_s=max((run.end.late_s["p99"] for run in runs if run.end), default=0.0),
        limit_s=max(LIMIT_S, LIMIT_FRAC * float(np.median(firsts_s)) if firsts_s else 0.0),
    )
