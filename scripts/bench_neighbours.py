"""How much does a flood against one model hold up another model's answers?

    python -m scripts.bench_neighbours                      # on this machine's processor, about eight minutes
    python -m scripts.bench_neighbours --seconds 2 --keep-nothing

Serves two of the demo's models. One stream after another is asked of the first, alone and while 32 streams at once flood the second, by
turns; under each of several options, twice. Writes docs/results/neighbours/.
"""

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from muxjax.bench.stopwatch import quantile
from muxjax.bench.told import RecordedStream, record_streams
from muxjax.demo.run import shipped
from scripts import results, served

QUESTION = "neighbours"
CALM, FLOOD = {"prompt": 32, "output": 24}, {"prompt": 100, "output": 8}
STREAMS = 32
GOAL = 2.0
TRIED: dict[str, dict[str, int]] = {
    "none": {},
    "shared": {"max_num_shared_tokens": 64},
    "short": {"max_num_batched_tokens": 128},
    "lanes": {"lanes": 2, "max_num_batched_tokens": 128},
}
"""Options by a word for them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8, help="of each round, alone and under the flood")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tried", choices=TRIED, nargs="*", default=[*TRIED, *TRIED], help="options, each again to see the noise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep-nothing", action="store_true", help="print the numbers, and write none")
    args = parser.parse_args()
    records = []
    for name in args.tried:
        with serving(TRIED[name]) as address:
            values = asyncio.run(measure(address, args.rounds, args.seconds, args.seed))
        print(name, values, flush=True)
        config = {"options": TRIED[name], "streams": STREAMS, "calm": CALM, "flood": FLOOD, "seconds": args.seconds}
        records.append(results.run_record(device=results.host(), config=config, seed=args.seed, values=values))
    print(page(records))
    if not args.keep_nothing:
        results.write_runs(QUESTION, "runs", records)
        results.write_readme(QUESTION, page(records))


@contextmanager
def serving(tried: Mapping[str, int]) -> Iterator[str]:
    """The address of a server of two models, "calm" and "flood", under those options."""
    folders = shipped()
    options = {
        "models": [{"name": name, "path": str(folder)} for name, folder in zip(("calm", "flood"), folders, strict=False)],
        **{"port": 0, "kv_cache_bytes": 2**26, "max_num_batched_tokens": 1024, "wait_for_all": True},
        **tried,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "neighbours.yaml")
        file.write_text(json.dumps(options))
        with served.serving(file) as server:
            yield server.address


async def measure(address: str, rounds: int, seconds: float, seed: int) -> dict:
    """Seconds to first tokens and between tokens of the calm model, by what went on beside it."""
    draw = random.Random(seed)
    await calm(address, 1.0, draw)  # what a first request brings is nobody's
    firsts: dict[str, list[float]] = {"alone": [], "flood": []}
    gaps: dict[str, list[float]] = {"alone": [], "flood": []}
    for _ in range(rounds):
        for name in firsts:
            floods = [asyncio.create_task(flood(address, draw)) for _ in range(STREAMS if name == "flood" else 0)]
            await asyncio.sleep(1)
            for first_s, answer in await calm(address, seconds, draw):
                firsts[name].append(first_s)
                gaps[name] += [after.at_s - before.at_s for before, after in pairwise(answer.events)]
            for task in floods:
                task.cancel()
            await asyncio.gather(*floods, return_exceptions=True)
            await asyncio.sleep(2)
    return {name: {"streams": len(firsts[name]), "first_s": quantiles(firsts[name]), "gap_s": quantiles(gaps[name])} for name in firsts} | {
        "load_average": os.getloadavg()[0]
    }


async def calm(address: str, seconds: float, draw: random.Random) -> list[tuple[float, RecordedStream]]:
    """Streams one after another: seconds to the first token, and the answer."""
    answers, end_s = [], time.monotonic() + seconds
    while time.monotonic() < end_s:
        begin_s = time.monotonic()
        (answer,) = await record_streams(address, "/completions", [_body("calm", draw, CALM)])
        answers.append((answer.first_s - begin_s, answer))
    return answers


async def flood(address: str, draw: random.Random) -> None:
    while True:
        await record_streams(address, "/completions", [_body("flood", draw, FLOOD)])


def _body(model: str, draw: random.Random, size: dict[str, int]) -> dict:
    prompt = [draw.randrange(5, 400) for _ in range(size["prompt"])]
    return {"model": model, "prompt": prompt, "max_tokens": size["output"], "ignore_eos": True, "stream": True}


def quantiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{at}": quantile(seconds, at) for at in (50, 99)}


def page(records: list[dict]) -> str:
    """README.md of the measurement."""
    head = ["options", "beside it", "streams", "first token p50", "p99", "gap p50", "gap p99"]
    rows = [
        [_options(record), name, values["streams"], *map(_ms, _times(values))]
        for record in records
        for name, values in record["values"].items()
        if name in ("alone", "flood")
    ]
    ratios = "; ".join(f"with {_options(record)} {_ratio(record)}" for record in records)
    over = {_options(record) for record in records if max(_ratios(record)) > GOAL}
    met = [options for options in dict.fromkeys(map(_options, records)) if options not in over]
    loads = ", ".join(f"{record['values']['load_average']:.1f}" for record in records)
    return f"""# How much does a flood against one model hold up another?

Two of the demo's models on {records[0]["device"]}. One stream after another ({CALM["prompt"]} tokens in, {CALM["output"]} out) of one
model, alone and while {STREAMS} streams at once ({FLOOD["prompt"]} in, {FLOOD["output"]} out) flood the other, by turns in one run.
Goal: p99 of the first token and of the gap between tokens at most twice what they are alone. Made by `python -m scripts.bench_neighbours`.

{results.table(head, rows)}

**p99 under the flood over p99 alone, first token and gap: {ratios}.
The goal is {f"met with {' and with '.join(met)}" if met else "missed with all"}.**
Each setting stands as often as it was run, in the order of the runs. The flooded rows have few streams, so that their p99 of the first
token is the worst of these. The load average was {loads}, this bench's own work and that of others: it is in all rows.
"""


def _options(record: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in record["config"]["options"].items()) or "none"


def _ratios(record: dict) -> list[float]:
    """p99 under the flood over p99 alone: of the first token, and of the gap."""
    alone, flooded = record["values"]["alone"], record["values"]["flood"]
    return [flooded[what]["p99"] / alone[what]["p99"] for what in ("first_s", "gap_s")]


def _ratio(record: dict) -> str:
    return " and ".join(f"{ratio:.1f}" for ratio in _ratios(record)) + " times"


def _times(values: dict) -> list[float]:
    return [values[what][at] for what in ("first_s", "gap_s") for at in ("p50", "p99")]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms"


if __name__ == "__main__":
    main()
