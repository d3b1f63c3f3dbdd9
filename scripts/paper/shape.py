"""Does muxjax reproduce the shape of MuxServe's results? Its comparison and its ablations, in simulation.

python -m scripts.paper.shape           simulates all, and writes docs/results/paper-shape/ (needs matplotlib)
python -m scripts.paper.shape --page    writes the page again, of the runs that are there
python -m scripts.paper.shape --quick   prints a few runs of some seconds
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from typing import Any

from tqdm import tqdm

from scripts import results
from scripts.paper.ablation import Ablation, ablations
from scripts.paper.comparison import TIMING, Comparison, Timing, comparisons
from scripts.paper.figures import draw
from scripts.paper.page import page
from scripts.paper.tables import QUESTION

QUICK = Timing(warm_s=0.5, arrive_s=2.0, end_s=3.0)
ABLATION_S = 120.0

Run = Comparison | Ablation


def simulated(runs: Sequence[Run], processes: int | None) -> list[dict[str, Any]]:
    """Records of the runs, in their order; the longest begin first."""
    order = sorted(range(len(runs)), key=lambda at: -runs[at].work)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {at: pool.submit(_record, runs[at]) for at in order}
        for done in tqdm(as_completed(running.values()), total=len(runs), desc="simulating", unit="run", disable=None):
            done.result()
        return [running[at].result() for at in range(len(runs))]


def quick(seed: int) -> list[Run]:
    """Every system and every way to schedule once, for some seconds."""
    compared = [run for run in comparisons(QUICK, seed) if run.setting.alpha == 2.1 and run.setting.rate_scale == 1.0]
    first = ablations(2.0, seed)
    return [*compared, *(run for run in first if run.shape == first[0].shape and run.large_scale == first[0].large_scale)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="write page and plots of the runs that are there")
    parser.add_argument("--quick", action="store_true", help="a few runs of some simulated seconds, printed only")
    parser.add_argument("--shorter", type=float, default=1.0, metavar="X", help="all times of the runs, divided by this")
    parser.add_argument("--processes", type=int, help="that simulate (default: one a processor)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.quick:
        for record in simulated(quick(args.seed), args.processes):
            print(json.dumps(record))
        return
    if not args.page:
        begin = time.monotonic()
        timing = Timing(**{name: seconds / args.shorter for name, seconds in asdict(TIMING).items()})
        records = simulated([*comparisons(timing, args.seed), *ablations(ABLATION_S / args.shorter, args.seed)], args.processes)
        print(f"{len(records)} runs in {time.monotonic() - begin:.0f} s")
        results.write_runs(QUESTION, "runs", records)
    records = results.read_runs(QUESTION)
    draw(records, results.RESULTS / QUESTION)
    results.write_readme(QUESTION, page(records))


def _record(run: Run) -> dict[str, Any]:
    return run.record()


if __name__ == "__main__":
    main()
