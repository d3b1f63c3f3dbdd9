"""Several processes send one load as one client does, and what became of it comes back whole."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from muxjax.bench.client.address import address, reached
from muxjax.bench.client.open_loop import Server, made
from muxjax.bench.client.processes import ClientProcesses
from muxjax.bench.records import Record
from tests.bench.stub import Stub
from tests.bench.test_open_loop import ask


async def sent(stub: Stub, asks, records: list[Record], *, count: int = 2, until=None) -> ClientProcesses:
    server, url = await stub.start()
    async with server:
        client = ClientProcesses(Server(places={"m": await reached(address(url))}, path="/completions"), 7, records.append, count)
        work = asyncio.create_task(client.run(made(asks)))
        if until is not None:
            await until(work, client)
        await work
    return client


def test_every_request_is_sent_once_at_its_time_and_told():
    stub, records = Stub(gap_s=0.01), []
    asks = [ask(0.05 * k, prompt=[k, 2, 3, 4]) for k in range(9)]
    client = asyncio.run(sent(stub, asks, records, count=3))

    assert sorted(body["prompt"][0] for body in stub.heard) == list(range(9))
    assert sorted(record.intended_s for record in records) == [round(0.05 * k, 6) for k in range(9)]
    assert all(record.sent_s >= record.intended_s and not record.error and record.output_tokens == 3 for record in records)
    assert {record.seed for record in records} == {7}
    end = client.end(complete=True)
    assert end.complete and end.ended_s == max(record.end_s for record in records)
    assert set(end.late_s) == {"p50", "p99", "p100"}


def test_more_processes_than_requests_are_no_trouble():
    records = []
    asyncio.run(sent(Stub(), [ask()], records, count=3))
    assert len(records) == 1


def test_whoever_ends_it_hangs_up_and_leaves_no_process_behind():
    records, ends_s = [], []

    async def end(work: asyncio.Task, client: ClientProcesses) -> None:
        while not records:
            await asyncio.sleep(0.01)
        work.cancel()
        ends_s.append(time.monotonic())

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(sent(Stub(gap_s=60.0), [ask(0.0, tokens=1), ask(0.0, tokens=9)], records, until=end))
    assert len(records) == 1 and time.monotonic() - ends_s[0] < 60
    assert not children()


def test_a_process_that_dies_is_told_of():
    async def kill(work: asyncio.Task, client: ClientProcesses) -> None:
        while not stub.heard:
            await asyncio.sleep(0.01)
        for pid in children():
            os.kill(pid, signal.SIGKILL)

    stub = Stub(gap_s=60.0)
    with pytest.raises(RuntimeError, match="before its requests have"):
        asyncio.run(sent(stub, [ask(tokens=9)], [], count=1, until=kill))


def children() -> list[int]:
    """Processes of a client that this one has started, and that have not ended."""
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit() and is_child(folder)]


def is_child(folder: Path) -> bool:
    try:
        state, parent = folder.joinpath("stat").read_text().rpartition(")")[2].split()[:2]
        return int(parent) == os.getpid() and state != "Z" and b"muxjax.bench.client.process" in folder.joinpath("cmdline").read_bytes()
    except OSError:
        return False


def test_a_process_whose_client_was_killed_ends_at_once_whatever_it_waits_for():
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-m", "muxjax.bench.client.process"], stdin=pipe, stdout=pipe) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == b"\n"
        process.stdout.close()  # while it waits for its standard input
        assert process.wait(60) == 1
