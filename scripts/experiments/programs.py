"""The programs of a question's servers, compiled on a machine that need not have the GPU: what a start there has not to wait for."""

import math
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from muxjax.__main__ import main as muxjax
from muxjax.bench.backends.known import backend_of
from muxjax.commands.bench.fleet import fleet_of
from muxjax.workload.load import Load
from scripts.experiments.measure import arrivals, unit_of
from scripts.experiments.question import Question

_SERVE = ("-m", "muxjax", "serve")
_HTTP = {"--host": 1, "--port": 1, "--wait-for-all": 0}
"""Flags of `serve` that `compile` has not, and how many values they have."""


def compile_programs(question: Question, work: Path, chip: str) -> int:
    """Has the folder of programs hold what muxjax's servers of all backends need on a chip; 1 if some is missing after that.

    Args:
      work: folder of the question, where its models are made.
    """
    return max((muxjax([*compiling(command), "--chip", chip]) for command in commands(question, work)), default=0)


def commands(question: Question, work: Path) -> Iterator[Sequence[str]]:
    """Those that start the servers of muxjax, as `muxjax bench compare` does."""
    load = Load(arrivals=arrivals(question, question.seeds[0]), window_s=math.inf)
    fleet = fleet_of(unit_of(question, work), load, device_bytes=0)
    for backend in map(backend_of, question.backends):
        for server in backend.servers(fleet, count(1).__next__):
            if server.command[1:4] == _SERVE:
                yield server.command


def compiling(command: Sequence[str]) -> list[str]:
    """The arguments of `muxjax` that compile what a command serves."""
    left, kept = iter(command[4:]), ["compile"]
    for word in left:
        if word in _HTTP:
            for _ in range(_HTTP[word]):
                next(left)
        else:
            kept.append(word)
    return kept
