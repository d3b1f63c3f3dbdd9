"""What a comparison came to, for people."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from muxjax.bench.backends.backend import Backend
from muxjax.bench.backends.check import Sample, disagreement
from muxjax.bench.records import Run, by_load
from muxjax.bench.summary import Summary, summary
from muxjax.bench.targets import Targets
from muxjax.units import show_bytes, show_s, show_table

COLUMNS = ("backend", "requests/s", "served", "failed", "in target", "tokens/s", "TTFT p50", "p99", "TPOT p50", "p99", "fairness")
MOST_ERRORS = 3
"""That are told of a backend."""


@dataclass(slots=True, kw_only=True)
class Came:
    """What a backend came to.

    Args:
      runs: complete ones, of the rates and seeds that were asked for; start_s: until it was ready, NaN where it was not started.
      used_bytes: of the GPU's memory once it was ready, 0 where that is not known.
      trouble: why it could not be run, or not to its end, or not as it should have been; empty if nothing was wrong.
    """

    backend: Backend
    runs: list[Run]
    start_s: float = math.nan
    used_bytes: int = 0
    samples: list[Sample] = field(default_factory=list)
    trouble: str = ""


def text(came: Sequence[Came], targets: Targets) -> Iterator[str]:
    """A row for each backend and rate, and what is to be known of the comparison."""
    totals = {one.backend.name: [(runs, summary(runs, targets)) for runs in by_load(one.runs)] for one in came}
    yield from show_table([COLUMNS, *(_row(name, runs, total) for name, found in totals.items() for runs, total in found)])
    for one in came:
        start = "" if math.isnan(one.start_s) else f"; ready in {show_s(one.start_s)}"
        start += f" with {show_bytes(one.used_bytes)} of the GPU" if one.used_bytes else ""
        yield f"{one.backend.name}: {one.backend.about}{start}{f'; {one.trouble}' if one.trouble else ''}"
        for _, total in totals[one.backend.name]:
            for error, count in list(total.errors.items())[:MOST_ERRORS]:
                yield f"{one.backend.name}: {count} failed: {error}"
    yield from agreement(came)


def agreement(came: Sequence[Came]) -> Iterator[str]:
    """Of the first words that each answered, against those of the first backend with any."""
    told = [one for one in came if any(sample.text for sample in one.samples)]
    for other in told[1:]:
        found = disagreement(other.samples, told[0].samples)
        yield f"{other.backend.name}: {found.differ} of {found.compared} greedy answers differ from those of {told[0].backend.name}"


def _row(name: str, runs: Sequence[Run], total: Summary) -> Sequence[str]:
    every = total.all
    times = [show_s(getattr(every, kind).percentiles[at]) for kind in ("ttft", "tpot") for at in ("p50", "p99")]
    attained = "" if every.attained is None else f"{every.attained:.2%}"
    rate = "all at once" if runs[0].begin.rate_rps is None else f"{runs[0].begin.rate_rps:.4g}"
    behind = "" if total.lag.valid else " (the client FELL BEHIND)"
    served, tokens = f"{every.throughput.rps:.4g}", f"{every.throughput.output_tokens_per_s:.5g}"
    return (name, rate, served, str(every.demanded - every.completed), attained, tokens, *times, f"{total.fairness:.3f}{behind}")
