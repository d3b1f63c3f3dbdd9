"""Does the client of `muxjax bench` keep up with 500 requests and 20,000 tokens a second?

    python -m scripts.bench_client                     # half a minute, on two cores
    python -m scripts.bench_client --seconds 2 --rates 50 --keep-nothing

A server in a process of its own makes tokens up at a fixed pace; the client asks it for 40 tokens at a time. Both have the same two cores.
What the client finds beyond the server's pace is its own error. Writes docs/results/bench-client/.
"""

import argparse
import os
import time
from collections.abc import Sequence
from typing import Any

from muxjax.bench.summary import summary
from muxjax.bench.targets import Targets
from muxjax.commands.bench.options import BenchOptions, LoadOptions
from muxjax.commands.bench.session import Session
from muxjax.units import show_s
from scripts import results
from scripts.served import telling

QUESTION = "bench-client"
FIRST_S, GAP_S, TOKENS, PROMPT = 0.05, 0.01, 40, 128
CORES, GOAL_RPS, GOAL_TOKENS = 2, 500.0, 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run")
    parser.add_argument("--rates", type=float, nargs="+", default=[100.0, 250.0, GOAL_RPS], help="requests a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beside", default="nothing else", help="what else ran on the machine, for the page")
    parser.add_argument("--keep-nothing", action="store_true", help="print the numbers, and write none")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with telling(["-m", "tests.bench.stub", f"--first={FIRST_S}", f"--gap={GAP_S}"]) as url:
        records = [_record(url, rate, args) for rate in args.rates]
    print(page(records))
    if not args.keep_nothing:
        results.write_runs(QUESTION, "runs", records)
        results.write_readme(QUESTION, page(records))


def _record(url: str, rate: float, args: argparse.Namespace) -> dict[str, Any]:
    load = LoadOptions(model=("m",), rate=rate, duration_s=args.seconds, random_input_len=PROMPT, random_output_len=TOKENS)
    config = {"rate": rate, "seconds": args.seconds, "cores": CORES, "beside": args.beside}
    config |= {"first_s": FIRST_S, "gap_s": GAP_S, "tokens": TOKENS, "prompt": PROMPT}
    values = measure(Session(BenchOptions(base_url=url, warmup=1), load), args.seed)
    return results.run_record(device=results.host(), config=config, seed=args.seed, values=values)


def measure(session: Session, seed: int) -> dict[str, Any]:
    """What the client found, and what it cost."""
    begin_s = time.process_time()
    found = summary([session.run(1.0, seed)], Targets())
    every = found.all
    return {
        "requests": every.demanded,
        "failed": every.demanded - every.completed,
        "seconds": found.duration_s,
        "peak_tokens_per_s": found.peak_output_tokens_per_s,
        "processor_s": time.process_time() - begin_s,
        "sent_late_p99_s": found.lag.sent_s,
        "loop_late_p99_s": found.lag.loop_s,
        "valid": found.lag.valid,
        "first_error_s": {at: every.ttft.percentiles[at] - FIRST_S for at in ("p50", "p99")},
        "gap_error_s": {at: every.tpot.percentiles[at] - GAP_S for at in ("p50", "p99")},
        "load_average": os.getloadavg()[0],
    }


def met(record: dict[str, Any]) -> bool:
    """The run is valid and lost nothing, at the goal's rates or more."""
    values = record["values"]
    return values["valid"] and not values["failed"] and record["config"]["rate"] * TOKENS >= GOAL_TOKENS


def page(records: Sequence[dict[str, Any]]) -> str:
    """README.md of the measurement."""
    head = ("requests/s", "tokens/s at most", "sent late, p99", "loop late, p99", "TTFT error, p50", "p99", "client's core", "")
    config, loads = records[0]["config"], ", ".join(f"{record['values']['load_average']:.1f}" for record in records)
    pace = f"the first after {show_s(config['first_s'])}, then one every {show_s(config['gap_s'])}"
    goal = f"{GOAL_RPS:g} requests and {GOAL_TOKENS:,} tokens a second on {CORES} cores"
    return f"""# Does the client of `muxjax bench` keep up with {GOAL_RPS:g} requests and {GOAL_TOKENS:,} tokens a second?

A server makes tokens up at a fixed pace, {pace}. The client asks it, at random times,
for {config["tokens"]} tokens after a prompt of {config["prompt"]}; both are processes on the same {config["cores"]} cores. A run is
valid while the client is at most 10 ms late (p99), in sending as in its loop. What it finds beyond the server's pace is an error of both.
Made by `python -m scripts.bench_client`; the runs are in [runs.jsonl](runs.jsonl). Device: {records[0]["device"]}.

{results.table(head, [_row(record) for record in records])}

**The goal of {goal} is {"met" if any(map(met, records)) else "missed"}.**
Beside it ran {config["beside"]}; the load average was {loads}.
"""


def _row(record: dict[str, Any]) -> tuple[object, ...]:
    values = record["values"]
    late = (values["sent_late_p99_s"], values["loop_late_p99_s"], values["first_error_s"]["p50"], values["first_error_s"]["p99"])
    share = f"{values['processor_s'] / values['seconds']:.0%}"
    return (
        f"{record['config']['rate']:g}",
        f"{values['peak_tokens_per_s']:,}",
        *map(show_s, late),
        share,
        "valid" if values["valid"] else "INVALID",
    )


if __name__ == "__main__":
    main()
