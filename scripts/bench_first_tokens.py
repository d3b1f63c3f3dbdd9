"""How long does a request wait for its first token at a server that writes many streams?

    python -m scripts.bench_first_tokens

The server of `scripts.bench_server`, whose models make a token for every stream each 20 ms at no cost; beside its streams, one request
after the other asks for a single token. Server and client have a processor each. Writes docs/results/first-tokens/.
"""

import argparse
import asyncio
import os
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from muxjax.bench.stopwatch import quantile
from muxjax.bench.told import record_streams
from scripts import results
from scripts.served import telling

QUESTION = "first-tokens"
TURN_S = 0.02
BESIDE = (0, 100, 200, 300)
"""Streams that the server writes meanwhile."""
PROBES, WARM_S = 200, 2.0
PROMPT = "the quick brown fox jumps over the lazy dog and "
"""Which the engine repeats."""
LONGEST = 10_000
"""Tokens of a stream that outlasts the probes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=int, nargs="+", default=BESIDE)
    parser.add_argument("--probes", type=int, default=PROBES)
    parser.add_argument("--keep-nothing", action="store_true", help="print the numbers, and write none")
    args = parser.parse_args()
    records = [record(streams, args.probes) for streams in args.beside]
    print(page(records))
    if not args.keep_nothing:
        results.write_runs(QUESTION, "runs", records)
        results.write_readme(QUESTION, page(records))


def record(streams: int, probes: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        server = ["-u", "-m", "scripts.bench_server", f"--serve={TURN_S}", f"--times={Path(folder, 'times.json')}"]
        with telling(server) as url:
            waits_s = asyncio.run(_waits(url, streams, probes))
    values = {"wait_s": {f"p{at}": quantile(waits_s, at) for at in (50, 90, 99)}, "load_average": os.getloadavg()[0]}
    config = {"streams": streams, "turn_s": TURN_S, "probes": probes}
    return results.run_record(device=results.host(), config=config, seed=0, values=values)


async def _waits(url: str, streams: int, probes: int) -> list[float]:
    """From the beginning of each request to its token."""
    draw = random.Random(0)

    def body(tokens: int) -> dict:
        return {"model": "m", "prompt": PROMPT, "max_tokens": tokens, "ignore_eos": True, "stream": True}

    waits_s = []
    async with asyncio.TaskGroup() as group:
        beside = group.create_task(record_streams(url, "/completions", [body(LONGEST) for _ in range(streams)]))
        await asyncio.sleep(WARM_S)
        for _ in range(probes):
            begin_s = time.monotonic()
            (answer,) = await record_streams(url, "/completions", [body(1)])
            waits_s.append(answer.first_s - begin_s)
            await asyncio.sleep(draw.random() * TURN_S)
        beside.cancel()
    return waits_s


def page(records: Sequence[dict]) -> str:
    """For people."""
    rows = [
        (record["config"]["streams"], *(f"{wait_s * 1e3:.1f} ms" for wait_s in record["values"]["wait_s"].values())) for record in records
    ]
    least, most = records[0], records[-1]
    added_ms = (most["values"]["wait_s"]["p50"] - least["values"]["wait_s"]["p50"]) * 1e3
    return "\n\n".join(
        (
            "# How long does a first token wait at a server that writes many streams?",
            f"A server with a fake engine makes a token for every stream each {TURN_S * 1e3:.0f} ms, so a request alone waits half a"
            f" turn and its way; beside its streams, {least['config']['probes']} requests ask for a token each, one after another."
            f" Made by `python -m scripts.bench_first_tokens`; device: {least['device']}, load average"
            f" {most['values']['load_average']:.1f}, commit {least['commit']}.",
            results.table(("streams beside it", "first token p50", "p90", "p99"), rows),
            f"**{most['config']['streams']} streams add {added_ms:.0f} ms to the median.** What a step has made is handed on to a few"
            " streams in each pass of the event loop, first tokens at once (`muxjax/server/outbox.py`).",
        )
    )


if __name__ == "__main__":
    main()
