"""Does the server stay whole under all that clients do to it, for 20 minutes?

    python -m scripts.soak.run                    # 20 minutes; writes docs/results/soak/
    python -m scripts.soak.run --minutes 1 --keep-nothing

`muxjax serve` with three tiny models in a process of its own, and clients that ask short and long things, whole and in streams, leave in
the middle, send nonsense, read slowly or all come at once, while a fourth model comes and goes. At the end every head block must be free or
kept for its tokens, no task of the server left, its memory flat, and every request that was accepted must have ended exactly once.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts import results
from scripts.soak.server import SoakServer, running
from scripts.soak.visits import ADMIN_KEY, OPERATOR, VISITS, Ledger, Site, Visit

QUESTION = "soak"
CLIENTS = 16
SETTLE_S = 60.0
SAMPLE_S = 1.0
FEWEST_SAMPLES = 300
MEMORY_FRAC, MEMORY_BYTES = 0.05, 32 * 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep-nothing", action="store_true", help="print the report, and write none")
    args = parser.parse_args()
    config = {"minutes": args.minutes, "clients": args.clients}
    values = soak(args.minutes, args.clients, args.seed)
    record = results.run_record(device=results.host(), config=config, seed=args.seed, values=values)
    print(page(record))
    if not args.keep_nothing:
        results.write_runs(QUESTION, "runs", [record])
        results.write_readme(QUESTION, page(record))
    if found := faults(values):
        raise SystemExit(f"{len(found)} faults; the first: {found[0]}")


def soak(minutes: float, clients: int, seed: int) -> dict[str, Any]:
    """What happened, and what was left."""
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), ADMIN_KEY) as server:
        values = asyncio.run(_traffic(server, minutes * 60, clients, seed))
        values |= {"exit_code": server.stop(), "logged": server.errors()}
    return values


async def _traffic(server: SoakServer, seconds: float, clients: int, seed: int) -> dict[str, Any]:
    ledger, memory = Ledger(), []
    operator = Site(server.address, ledger, random.Random(seed))
    await operator.visit(*OPERATOR)  # what is compiled for it is compiled once
    before = await server.state()
    end_s = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(_client(Site(server.address, ledger, random.Random(f"{seed} {number}")), VISITS, end_s))
        group.create_task(_client(operator, [OPERATOR], end_s))
        group.create_task(_sample(server, memory, end_s))
    after = await _settled(server, before)
    return {"ledger": ledger.values(), "memory_bytes": memory, "before": before, "after": after}


async def _client(site: Site, visits: Sequence[tuple[str, Visit]], end_s: float) -> None:
    """One visit after the other."""
    while time.monotonic() < end_s:
        name, visit = site.draw.choice(visits)
        await site.visit(name, visit)


async def _sample(server: SoakServer, memory: list[int], end_s: float) -> None:
    while time.monotonic() < end_s:
        memory.append(server.memory_bytes())
        await asyncio.sleep(SAMPLE_S)


async def _settled(server: SoakServer, before: dict[str, Any]) -> dict[str, Any]:
    """The server's state once nothing runs and no more tasks are there than before, or after so long."""
    end_s = time.monotonic() + SETTLE_S
    while True:
        state = await server.state()
        if (state["load"] == 0 and state["tasks"] <= before["tasks"]) or time.monotonic() > end_s:
            return state
        await asyncio.sleep(0.5)


def faults(values: dict[str, Any]) -> list[str]:
    """What is not as it should be."""
    ledger, after = values["ledger"], values["after"]
    found = [*ledger["faults"], *(f"the server logged: {line}" for line in values["logged"])]
    if after["load"]:
        found.append(f"{after['load']} requests never ended")
    if after["free_blocks"] != after["total_blocks"]:
        found.append(f"{after['total_blocks'] - after['free_blocks']} head blocks are lost")
    if after["tasks"] > values["before"]["tasks"]:
        found.append(f"{after['tasks'] - values['before']['tasks']} tasks are left")
    ended, seen, unseen = after["ended"], ledger["seen"], ledger["unseen"]
    answered = ended.get("stop", 0) + ended.get("length", 0)
    if not seen <= answered <= seen + unseen:
        found.append(f"{answered} requests were answered, clients saw {seen} and left {unseen} alone")
    if sum(ended.values()) > seen + unseen:
        found.append(f"{sum(ended.values())} requests ended, {seen + unseen} were sent")
    if growth := _growth_bytes(values["memory_bytes"]):
        found.append(f"memory grew by {growth / 2**20:.0f} MiB")
    if values["exit_code"] != 0:
        found.append(f"the server ended with code {values['exit_code']}")
    return found


def _growth_bytes(memory: list[int]) -> int:
    """From the second fifth of the time to the last, if it is more than noise; in the first minutes it always grows."""
    fifth = len(memory) // 5
    if len(memory) < FEWEST_SAMPLES:
        return 0
    early, late = (sorted(part)[fifth // 2] for part in (memory[fifth : 2 * fifth], memory[-fifth:]))
    return late - early if late - early > max(MEMORY_FRAC * early, MEMORY_BYTES) else 0


README = """
# Does the server stay whole under all that clients do to it?

`muxjax serve` with three tiny models on the CPU for {minutes:g} minutes, and {clients} clients that each did one of these after the other;
an operator kept adding and removing a fourth model.
Made by `python -m scripts.soak.run`; what was counted is in [runs.jsonl](runs.jsonl). Device: {device}.

{visits}

**{answer}** Every answer was checked by its client: the right choices, each ended once, the tokens counted, and errors with the status and
form they are to have.

{ends}
"""


def page(record: dict[str, Any]) -> str:
    """The README of the results."""
    values, found = record["values"], faults(record["values"])
    ledger, after, memory = values["ledger"], values["after"], values["memory_bytes"]
    ended = ", ".join(f"{count:,} {reason}" for reason, count in sorted(after["ended"].items()))
    rows = [
        ("requests still there", after["load"]),
        ("head blocks not free (or kept for their tokens only)", after["total_blocks"] - after["free_blocks"]),
        ("tasks before and after", f"{values['before']['tasks']} and {after['tasks']}"),
        ("ended, by reason", ended),
        ("answers that clients saw to their end, or left alone", f"{ledger['seen']:,} and {ledger['unseen']:,}"),
        ("memory at first, at last, and the most", ", ".join(f"{size / 2**20:,.0f} MiB" for size in (memory[0], memory[-1], max(memory)))),
        ("code at the end, after SIGTERM", values["exit_code"]),
    ]
    visits = [(name, f"{count['visits']:,}", f"{count['refused']:,}") for name, count in sorted(ledger["kinds"].items())]
    return README.format(
        **record["config"],
        device=record["device"],
        visits=results.table(("what a client does", "times", "requests refused (503, 429)"), visits),
        answer="No fault was found." if not found else f"{len(found)} faults; the first: {found[0].splitlines()[0]}.",
        ends=results.table(("at the end", ""), rows),
    )


if __name__ == "__main__":
    main()
