"""The last jobs and requests, for who looks at the server now."""

import itertools
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from muxjax.engine.job_records import JobRecord
from muxjax.server.telemetry.request_record import RequestRecord

_JOBS, _REQUESTS, _LAST = 4096, 512, 50
_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Latency of a model's requests of the last minute, as far as they are remembered; None where there were none.

    Args:
      ttft_s, tpot_s: half of them took so long, and 99 in 100 at most so long: to the first token, and between tokens in the mean.
    """

    requests: int
    ttft_s: tuple[float, float] | None
    tpot_s: tuple[float, float] | None


class Refusal(NamedTuple):
    """A request that was refused, or failed before its answer began.

    Args:
      at_s: `time.monotonic`'s.
      code: OpenAI's, or else the field that was wrong; "" where there is neither.
      route: its pattern, not what the client asked for.
    """

    at_s: float
    status: int
    code: str
    route: str


class RecentActivity:
    """A watcher that remembers a bounded number of jobs and requests."""

    def __init__(self):
        self._jobs: deque[tuple[int, JobRecord]] = deque(maxlen=_JOBS)
        self._numbers = itertools.count(1)
        self._requests: dict[str, deque[RequestRecord]] = {}
        self._last: deque[RequestRecord] = deque(maxlen=_LAST)
        self._refusals: deque[Refusal] = deque(maxlen=_LAST)
        self._refused: Counter[int] = Counter()

    def request(self, record: RequestRecord) -> None:
        self._requests.setdefault(record.model, deque(maxlen=_REQUESTS)).append(record)
        self._last.append(record)

    def refusal(self, refusal: Refusal) -> None:
        self._refusals.append(refusal)
        self._refused[refusal.status] += 1

    def job(self, record: JobRecord) -> None:
        self._jobs.append((next(self._numbers), record))

    def jobs(self, after: int, most: int) -> list[tuple[int, JobRecord]]:
        """The last so many jobs with a number above `after`, oldest first. Numbers begin at 1 and grow."""
        newest = itertools.takewhile(lambda entry: entry[0] > after, reversed(self._jobs.copy()))
        return list(itertools.islice(newest, most))[::-1]

    def requests(self) -> list[RequestRecord]:
        """The last ones of all models, newest first."""
        return list(self._last)[::-1]

    def refusals(self) -> list[Refusal]:
        """The last ones, newest first."""
        return list(self._refusals)[::-1]

    def refused(self) -> dict[int, int]:
        """How many there were since the start, by status."""
        return dict(sorted(self._refused.items()))

    def latency(self, model: str, now_s: float | None = None) -> Latency:
        begin_s = (time.monotonic() if now_s is None else now_s) - _WINDOW_S
        recent = [record for record in self._requests.get(model, ()) if record.end_s >= begin_s]
        return Latency(
            requests=len(recent),
            ttft_s=_half_and_most(record.ttft_s for record in recent),
            tpot_s=_half_and_most(record.tpot_s for record in recent),
        )


def _half_and_most(values: Iterable[float | None]) -> tuple[float, float] | None:
    ordered = sorted(value for value in values if value is not None)
    return (_quantile(ordered, 0.5), _quantile(ordered, 0.99)) if ordered else None


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The least value that so large a share of the values does not exceed."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
