"""How long does a request wait for its first token at a server that writes many streams?

    python -m scripts.bench_first_tokens

The server of `scripts.bench_server`, whose models make a token for every stream each 20 ms at no cost; beside its streams, one request
after the other asks for a single token. Then the same of an engine of ours that computes nearly all of the time, as one does that launches
the steps of several models: with our interval for which a thread has Python while another one waits, and with Python's own. Server and
client have a processor each. Writes docs/results/first-tokens/.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from muxjax.bench.stopwatch import quantile
from muxjax.bench.told import record_streams
from muxjax.engine.engine import Engine
from muxjax.engine.executor import Done, Step
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.unit import Unit
from muxjax.scheduler.policies import by_name
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.http.serve import serve
from muxjax.server.service import Service
from scripts import made_up, results
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
COMPUTES_S = 0.004
"""Of the engine's thread for a step, without a pause."""
PYTHONS_S = 0.005
"""Of its own accord a thread has Python for so long while another one waits."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=int, nargs="+", default=BESIDE)
    parser.add_argument("--probes", type=int, default=PROBES)
    parser.add_argument("--keep-nothing", action="store_true", help="print the numbers, and write none")
    parser.add_argument("--serve", type=float, metavar="INTERVAL_S", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve is not None:
        asyncio.run(_serve_busily(args.serve))
        return
    records = [record(streams, args.probes) for streams in args.beside]
    records += [record_busy(interval_s, args.probes) for interval_s in (0.0, PYTHONS_S)]
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


def record_busy(interval_s: float, probes: int) -> dict:
    """Beside one stream of an engine that computes.

    Args:
      interval_s: for which a thread has Python while another one waits; 0 for the engine's.
    """
    with telling(["-u", "-m", "scripts.bench_first_tokens", f"--serve={interval_s}"]) as url:
        waits_s = asyncio.run(_waits(url, 1, probes))
    values = {"wait_s": {f"p{at}": quantile(waits_s, at) for at in (50, 90, 99)}, "load_average": os.getloadavg()[0]}
    config = {"computes_s": COMPUTES_S, "interval_s": interval_s, "streams": 1, "probes": probes}
    return results.run_record(device=results.host(), config=config, seed=0, values=values)


class Computing:
    """An executor whose steps are computed by whoever launches them, in Python."""

    def __init__(self):
        self._done: list[Done] = []

    def launch(self, step: Step) -> None:
        until_s = time.monotonic() + COMPUTES_S
        while time.monotonic() < until_s:
            pass
        self._done.append(Done(step_id=step.id, tokens=np.full(len(step.slots), 5, np.int32), at_s=time.monotonic()))

    def collect(self, *, wait: bool) -> list[Done]:
        done, self._done = self._done, []
        return done

    def wake(self) -> None:
        """It never waits."""


async def _serve_busily(interval_s: float) -> None:
    unit = Unit([ModelConfig(name="m", layout=made_up.LAYOUT, slots=64, max_tokens=2 * LONGEST)], total_blocks=2**20, token_budget=2048)
    engine = Engine(unit, by_name("mux"), Computing())
    service = Service(engine, Catalog([made_up.model()]))

    def ready(address: str) -> None:
        if interval_s:
            sys.setswitchinterval(interval_s)
        print(address, flush=True)

    await serve(service, HttpOptions(port=0, shutdown_timeout_s=1), report=ready)


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
    idle = [one for one in records if "turn_s" in one["config"]]
    busy = [one for one in records if one not in idle]
    least, most = idle[0], idle[-1]
    added_ms = (most["values"]["wait_s"]["p50"] - least["values"]["wait_s"]["p50"]) * 1e3
    head = ("first token p50", "p90", "p99")
    return "\n\n".join(
        (
            "# How long does a first token wait at a server that writes many streams?",
            f"A server with a fake engine makes a token for every stream each {TURN_S * 1e3:.0f} ms, so a request alone waits half a"
            f" turn and its way; beside its streams, {least['config']['probes']} requests ask for a token each, one after another."
            f" Made by `python -m scripts.bench_first_tokens`; device: {least['device']}, load average"
            f" {most['values']['load_average']:.1f}, commit {least['commit']}.",
            results.table(("streams beside it", *head), [(one["config"]["streams"], *_waits_ms(one)) for one in idle]),
            f"**{most['config']['streams']} streams add {added_ms:.0f} ms to the median.** What a step has made is handed on to a few"
            " streams in each pass of the event loop, first tokens at once (`muxjax/server/outbox.py`).",
            "## Beside an engine that computes",
            f"An engine whose steps are {COMPUTES_S * 1e3:.0f} ms of Python each, one behind the other, as a thread that launches those of"
            " several models has little rest. A request is heard by another thread, which must get Python from it.",
            results.table(("a thread has Python, while another waits, for", *head), [(_interval(one), *_waits_ms(one)) for one in busy]),
        )
    )


def _waits_ms(record: dict) -> list[str]:
    return [f"{wait_s * 1e3:.1f} ms" for wait_s in record["values"]["wait_s"].values()]


def _interval(record: dict) -> str:
    """Of a run beside an engine that computes."""
    return f"{record['config']['interval_s'] * 1e3:g} ms, as Python has it" if record["config"]["interval_s"] else "what the engine says"


if __name__ == "__main__":
    main()
