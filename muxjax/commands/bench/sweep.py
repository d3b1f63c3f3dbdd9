"""`muxjax bench sweep`: the highest rate at which enough requests are within their targets."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from muxjax.bench.backends.processes import sigterm_as_ctrl_c
from muxjax.bench.records import Run, read_runs
from muxjax.bench.summary import Summary, summary
from muxjax.bench.targets import Targets
from muxjax.commands.bench.options import BenchOptions, LoadOptions, SweepOptions
from muxjax.commands.bench.serve import INTERRUPTED, INVALID, REPORT
from muxjax.commands.bench.session import Session
from muxjax.errors import MuxError, require
from muxjax.units import show_s, show_table
from muxjax.whole_file import require_writable, write_json
from muxjax.workload import goodput, metrics


def run(load: LoadOptions, options: BenchOptions, targets: Targets, sweep: SweepOptions) -> int:
    """Prints each rate that was tried and the highest good one; rates whose runs the file of records holds are not measured again.

    1 if the client fell behind at that rate or the next one, 130 after Ctrl-C or SIGTERM.
    Raises:
      ConfigError: a file, a server or a model that is not there, or nothing to hold answers against; OSError: records cannot be written
        any more. What was measured before is printed.
    """
    known = bool(targets.absolute) or options.warmup > 0
    require(known, "warmup", options.warmup, "1 or more where no targets in seconds are given")
    require(load.rate < float("inf"), "rate", load.rate, "finite: it is what is searched")
    if options.json is not None:
        require_writable(options.json, field="json", begins=[REPORT])
    rates = Rates(Session(options, load), targets, kept(options, load.written))
    try:
        with sigterm_as_ctrl_c():
            tried = goodput.search(rates.attained, sweep.least, most=sweep.most_scale)
    except (KeyboardInterrupt, MuxError, OSError) as error:
        if not rates.found:
            raise
        print("\n".join(text(rates.found, None, sweep.least)))
        if isinstance(error, KeyboardInterrupt):
            return INTERRUPTED
        raise
    best = metrics.goodput(tried, sweep.least)
    print("\n".join(text(rates.found, best, sweep.least)))
    if options.json is not None:
        write_json(options.json, numbers(rates.found, best, options, sweep), field="json")
    beyond = min((scale for scale in rates.found if scale > best), default=best)
    if all(rates.found[scale][1].lag.valid for scale in {best, beyond} & set(rates.found)):
        return 0
    print("INVALID: the client fell behind at that rate or the next one, so that it is the client's; have several send (--clients 4)")
    return INVALID


class Rates:
    """Attainment by multiples of the load's rate, each measured once.

    Args:
      runs: that are there already.
    """

    def __init__(self, session: Session, targets: Targets, runs: Sequence[Run]):
        self._session, self._targets, self._runs = session, targets, list(runs)
        self.found: dict[float, tuple[float, Summary]] = {}
        """Requests a second and what came of them, by the multiple."""

    def attained(self, scale: float) -> float:
        """Of all seeds together."""
        runs = [self._one(scale, seed) for seed in self._session.options.seeds]
        total = summary(runs, self._targets)
        self.found[scale] = (runs[0].begin.rate_rps or 0.0, total)
        return total.all.attained or 0.0

    def _one(self, scale: float, seed: int) -> Run:
        own = scale * self._session.load.rate_scale
        there = [run for run in self._runs if (run.begin.scale, run.begin.seed) == (own, seed)]
        if not there:
            return self._session.run(scale, seed)
        begin, file = there[-1].begin, self._session.options.records
        print(f"{begin.label}: {begin.rate_rps or 0.0:.4g} requests/s, seed {seed}: as {file} has it, of {begin.date}", file=sys.stderr)
        return there[-1]


def kept(options: BenchOptions, load: Mapping[str, Any]) -> list[Run]:
    """Whole runs of this load, as records have it, that the file of records holds.

    Raises:
      ConfigError: it holds something else.
    """
    if options.records is None or not options.records.is_file():
        return []
    runs = read_runs(options.records)
    return [run for run in runs if run.complete and run.begin.load == load and run.begin.label == options.label]


def text(found: dict[float, tuple[float, Summary]], best: float | None, least: float) -> Iterator[str]:
    """A row for each rate, and the answer where the search has ended."""
    rows: list[Sequence[str]] = [("requests/s", "in target", "TTFT p50", "p99", "TPOT p50", "p99", "output tokens/s", "client")]
    for rate_rps, total in sorted(found.values(), key=lambda one: one[0]):
        every = total.all
        times = [show_s(getattr(every, name).percentiles[at]) for name in ("ttft", "tpot") for at in ("p50", "p99")]
        behind = "kept up" if total.lag.valid else "FELL BEHIND"
        rows.append((f"{rate_rps:.4g}", f"{every.attained:.2%}", *times, f"{every.throughput.output_tokens_per_s:.5g}", behind))
    yield from show_table(rows)
    if best is None:
        yield "INCOMPLETE: the search was ended early; with --records it goes on where it was"
    elif best:
        bound = "at least " if best == max(found) else ""  # the search ends somewhere
        yield f"the highest rate with {least:.4g} of the requests within their targets: {bound}{found[best][0]:.4g} requests/s"
    else:
        yield f"at no rate tried, down to {min(rate for rate, _ in found.values()):.4g} requests/s, were {least:.4g} within their targets"


def numbers(found: dict[float, tuple[float, Summary]], best: float, options: BenchOptions, sweep: SweepOptions) -> dict[str, object]:
    """For a file."""
    tried = [
        {"scale": scale, "request_rate": rate_rps, "attainment": total.all.attained, "valid": total.lag.valid}
        for scale, (rate_rps, total) in sorted(found.items())
    ]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "label": options.label,
        "least": sweep.least,
        "request_rate": found[best][0] if best else 0.0,
        "scale": best,
        "tried": tried,
    }
