"""`muxjax simulate`: a placement under a load, in virtual time, through the scheduler, cache accounting and loop that serve."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muxjax.commands import load, report
from muxjax.commands.load import Load
from muxjax.commands.problem import read_problem
from muxjax.cost.measured import costs_of
from muxjax.errors import require
from muxjax.placement.plan_file import read_placement
from muxjax.placement.problem import Placement, Problem
from muxjax.scheduler.policies import by_name
from muxjax.simulate import cluster
from muxjax.simulate.cluster import Job, outcomes, split
from muxjax.simulate.executor import SERIAL, SPATIAL
from muxjax.simulate.unit import Outcome
from muxjax.whole_file import whole_file
from muxjax.workload import goodput, metrics, plots


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked.

    Args:
      trace: a file of requests, in that format; None for what comes at random in duration_s: of the preset `workload`, or, if that is
        None too, of the problem's rates.
      rename: models of the trace or preset, as OLD=NEW.
      rate_scale: of the load; drain_s: after it, in which unfinished requests may still end.
      serial: one step at a time on a device.
      max_model_len: to which requests are cut.
      costs: a cost table; None for those that come with the package.
      goodput: share of requests within slo_scale times what they take alone, of which the highest rate is searched; None for no search.
      processes: None for one a processor.
    Raises:
      ConfigError: a value outside its range.
    """

    trace: Path | None = None
    format: str = "muxjax"
    workload: str | None = None
    rename: Sequence[str] = ()
    duration_s: float = 60.0
    drain_s: float = 60.0
    rate_scale: float = 1.0
    seed: int = 0
    policy: str = "adbs"
    serial: bool = False
    max_model_len: int = 8192
    goodput: float | None = None
    slo_scale: float = 8.0
    processes: int | None = None
    costs: Path | None = None
    json: Path | None = None
    plot: Path | None = None

    def __post_init__(self):
        for field in ("duration_s", "rate_scale", "slo_scale"):
            require(0 < getattr(self, field) < float("inf"), field, getattr(self, field), "over 0 and finite")
        require(0 <= self.drain_s < float("inf"), "drain_s", self.drain_s, "0 or more and finite")
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        require(2 <= self.max_model_len <= 2**20, "max_model_len", self.max_model_len, f"2 to {2**20}")
        require(self.goodput is None or 0 < self.goodput <= 1, "goodput", self.goodput, "over 0, to 1")
        require(self.processes is None or self.processes >= 1, "processes", self.processes, "1 or more")
        require(self.trace is None or self.workload is None, "workload", self.workload, "left out where a trace is given")
        by_name(self.policy)
        for field in ("json", "plot"):
            path = getattr(self, field)
            require(path is None or path.parent.is_dir(), field, str(path), "in a folder that exists")
        if self.plot:
            plots.check(self.plot)


def run(problem_file: Path, placement_file: Path, options: Options) -> None:
    """Prints all metrics of the run, and writes the files asked for.

    Raises:
      ConfigError: an unreadable file, a placement that cannot be served, or a trace with models that it lacks; nothing is written.
    """
    problem, placement = read_problem(problem_file), read_placement(placement_file)
    cluster.check(problem, placement)
    rename = load.renaming(options.rename)
    if options.trace:
        source = load.recorded(options.trace, options.format, rename)
    else:
        source = load.drawn(problem_file, options.workload, options.duration_s, options.seed, rename)
    asked = source(options.rate_scale)
    ended = _outcomes(problem, placement, asked, options, "simulating")
    found = report.numbers(problem, asked, ended)
    print("\n".join(report.text(found)))
    if options.goodput:
        found["goodput"] = _goodput(problem, placement, source, options)
        print(_goodput_text(found["goodput"]))
    if options.json:
        with whole_file(options.json, field="json") as file:
            file.write(json.dumps({"options": _written(options), **found}, indent=1, allow_nan=False) + "\n")
    if options.plot:
        _draw(options.plot, problem, asked, ended)


def _outcomes(problem: Problem, placement: Placement, asked: Load, options: Options, title: str) -> list[Outcome]:
    return outcomes(list(_jobs(problem, placement, asked, options)), title=title, processes=options.processes)


def _jobs(problem: Problem, placement: Placement, asked: Load, options: Options) -> list[Job]:
    sharing, until_s = SERIAL if options.serial else SPATIAL, asked.last_s + options.drain_s
    longest = max(arrival.prompt_tokens + arrival.output_tokens for arrival in asked.arrivals)
    sizes = {"max_tokens": min(longest, options.max_model_len), "measured": costs_of(problem.cluster.chip, options.costs)}
    return list(split(problem, placement, asked.arrivals, options.policy, sharing, until_s, **sizes))


def _goodput(problem: Problem, placement: Placement, source: load.Source, options: Options) -> dict[str, Any]:
    """The highest multiple of the load at which enough requests are within their objective, and all that were tried."""
    least, alone, demanded = options.goodput or metrics.GOOD, report.idle(problem), {}

    def attains(scale: float) -> float:
        asked = source(options.rate_scale * scale)
        ended = _outcomes(problem, placement, asked, options, f"rate x {options.rate_scale * scale:.3g}")
        served = [one for outcome in ended for one in outcome.served]
        demanded[scale] = len(asked.arrivals) / max(asked.last_s, 1e-9)
        return metrics.attainments(served, alone, len(asked.arrivals), [options.slo_scale]).latency[options.slo_scale]

    tried = goodput.search(attains, least)
    best = metrics.goodput(tried, least)
    return {
        "least": least,
        "slo_scale": options.slo_scale,
        "rate_scale": options.rate_scale * best,
        "rps": demanded.get(best, 0.0),
        "tried": {f"{options.rate_scale * scale:.6g}": share for scale, share in sorted(tried.items())},
    }


def _goodput_text(found: dict[str, Any]) -> str:
    within = f"{100 * found['least']:g} % of the requests within {found['slo_scale']:g} times what they take alone"
    if not found["rate_scale"]:
        return f"goodput: at no rate tried, down to {min(map(float, found['tried'])):.3g} of the load's, were {within}"
    least = "at least " if min(found["tried"].values()) >= found["least"] else ""  # the search ends somewhere
    return f"goodput: {least}{found['rps']:.4g} requests/s, {found['rate_scale']:.3g} times the load's, with {within}"


def _draw(path: Path, problem: Problem, asked: Load, ended: list[Outcome]) -> None:
    served = [one for outcome in ended for one in outcome.served]
    demanded = Counter(arrival.model for arrival in asked.arrivals)
    attained = metrics.attainments(served, report.idle(problem), demanded.total())
    plots.draw(path, served, demanded, attained)


def _written(options: Options) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, Path) else value
        for name in options.__slots__
        if (value := getattr(options, name)) not in (None, [], ())
    }
