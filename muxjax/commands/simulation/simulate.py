"""`muxjax simulate`: a placement under a load, in virtual time, through the scheduler, cache accounting and loop that serve."""

from collections import Counter
from pathlib import Path
from typing import Any

from muxjax.commands.problem_file import read_problem, read_streams
from muxjax.commands.simulation import report as simulate_report
from muxjax.commands.simulation.options import SimulateOptions
from muxjax.cost.measured import costs_of
from muxjax.placement.plan_file import read_placement
from muxjax.placement.problem import Placement, Problem
from muxjax.simulate import cluster
from muxjax.simulate.cluster import Job, outcomes, split
from muxjax.simulate.sharing import LANES, SERIAL
from muxjax.simulate.unit import Outcome
from muxjax.whole_file import require_writable, write_json
from muxjax.workload import goodput, load, metrics, plots, presets
from muxjax.workload.load import MOST_REQUESTS, Load, Source

MORE_REQUESTS = 0.9
"""Share of the most requests there may be, up to which a search raises the rate: how many are drawn is random."""
_REPORT = b'{"options"'
"""Beginning of a file of metrics, without spaces."""


def run(problem_file: Path, placement_file: Path, options: SimulateOptions) -> None:
    """Prints all metrics of the run, and writes the files that the options name.

    Raises:
      ConfigError: an unreadable file, a placement that cannot be served, or a trace with models that it lacks; nothing is written.
    """
    if options.json:
        require_writable(options.json, field="json", begins=[_REPORT])
    if options.plot:
        plots.check(options.plot)
        require_writable(options.plot, field="plot", begins=plots.BEGINS)
    problem, placement = read_problem(problem_file), read_placement(placement_file)
    cluster.check(problem, placement)
    source = _source(problem_file, options)
    requests = source(options.rate_scale)
    simulated = _outcomes(problem, placement, requests, options, "simulating")
    numbers = simulate_report.numbers(problem, requests, simulated)
    print("\n".join(simulate_report.text(numbers)))
    if options.goodput:
        numbers["goodput"] = _goodput(problem, placement, source, options)
        print(_goodput_text(numbers["goodput"]))
    if options.json:
        write_json(options.json, {"options": _written(options), **numbers}, field="json")
    if options.plot:
        _draw(options.plot, problem, requests, simulated)


def _source(problem: Path, options: SimulateOptions) -> Source:
    """The requests of a trace, of a preset, or else of the problem's models."""
    rename = load.renaming(options.rename)
    if options.trace:
        return load.recorded(options.trace, options.format, rename)
    streams = presets.by_name(options.workload).streams if options.workload is not None else read_streams(problem)
    return load.drawn(streams, options.duration_s, options.seed, rename)


def _outcomes(problem: Problem, placement: Placement, requests: Load, options: SimulateOptions, title: str) -> list[Outcome]:
    return outcomes(list(_jobs(problem, placement, requests, options)), title=title, processes=options.processes)


def _jobs(problem: Problem, placement: Placement, requests: Load, options: SimulateOptions) -> list[Job]:
    sharing, until_s = SERIAL if options.lanes == 1 else LANES, requests.last_s + options.drain_s
    longest = max(arrival.prompt_tokens + arrival.output_tokens for arrival in requests.arrivals)
    most, costs = min(longest, options.max_model_len), costs_of(problem.cluster.chips, options.costs)
    return list(
        split(problem, placement, requests.arrivals, options.policy, sharing, until_s, max_tokens=most, measured=costs, lanes=options.lanes)
    )


def _goodput(problem: Problem, placement: Placement, source: Source, options: SimulateOptions) -> dict[str, Any]:
    """The highest multiple of the load at which enough requests are within their objective, and all that were tried."""
    least, alone, demanded = options.goodput or metrics.GOOD, simulate_report.idle(problem), {}

    def attains(scale: float) -> float:
        requests = source(options.rate_scale * scale)
        simulated = _outcomes(problem, placement, requests, options, f"rate x {options.rate_scale * scale:.3g}")
        served = [one for outcome in simulated for one in outcome.served]
        demanded[scale] = len(requests.arrivals) / max(requests.last_s, 1e-9)
        return metrics.attainments(served, alone, len(requests.arrivals), [options.slo_scale]).latency[options.slo_scale]

    most = max(1.0, MORE_REQUESTS * MOST_REQUESTS / len(source(options.rate_scale).arrivals))
    tried = goodput.search(attains, least, most=most)
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


def _draw(path: Path, problem: Problem, requests: Load, simulated: list[Outcome]) -> None:
    served = [one for outcome in simulated for one in outcome.served]
    demanded = Counter(arrival.model for arrival in requests.arrivals)
    attained = metrics.attainments(served, simulate_report.idle(problem), demanded.total())
    plots.draw(path, served, demanded, attained)


def _written(options: SimulateOptions) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, Path) else value
        for name in options.__slots__
        if (value := getattr(options, name)) not in (None, [], ())
    }
