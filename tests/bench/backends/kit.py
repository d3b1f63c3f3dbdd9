"""A fleet as a value, and backends of servers that are told how to fail."""

import sys
from collections.abc import Sequence
from pathlib import Path

from muxjax.bench.backends.backend import Backend, Ports, Server
from muxjax.bench.backends.fleet import Fleet, Member

ROOT = Path(__file__).parents[3]
GIB = 2**30


def member(name: str = "a", **changed) -> Member:
    fields = {"path": Path("/models", name), "weight_bytes": 2 * GIB, "token_bytes": 2**17, "cache_share": 0.25, "compute_share": 0.5}
    return Member(name=name, **(fields | changed))


def fleet(*members: Member, **changed) -> Fleet:
    return Fleet(members=members or (member(),), **({"cache_bytes": 8 * GIB, "device_bytes": 80 * GIB} | changed))


def failing(*faults: str, name: str = "made up", mps: bool = False) -> Backend:
    """A server for each fault, "" for none; it serves a model of that name, or "good"."""

    def servers(_: Fleet, ports: Ports) -> Sequence[Server]:
        return [server(fault, ports()) for fault in faults]

    return Backend(name=name, about="for tests", servers=servers, mps=mps)


def server(fault: str, port: int) -> Server:
    name = fault or "good"
    command = (sys.executable, "-m", "tests.bench.backends.server", name, "--port", str(port), "--fault", fault)
    return Server(name=name, models=(name,), command=command, port=port, environment={"PYTHONPATH": str(ROOT)})
