"""Seconds on the device, and the rate of a copy, which floors are told by."""

import statistics
import time
from collections.abc import Callable

import torch

REPEATS, CALLS = 5, 20


def seconds(call: Callable[[], object], device: torch.device, *, calls: int = CALLS) -> float:
    """Of one call in a row of them. On a GPU they are a graph, so that nothing waits for the host."""
    call()
    if device.type != "cuda":
        return _median_s(lambda: [call() for _ in range(2)], device) / 2
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            call()
    graph.replay()
    return _median_s(graph.replay, device) / calls


def replay_seconds(launch: Callable[[], object], device: torch.device, *, calls: int = CALLS) -> float:
    """Of one launch in a row of them, where the launch is of a graph already."""
    launch()
    return _median_s(lambda: [launch() for _ in range(calls)], device) / calls


def copy_rate(device: torch.device) -> float:
    """Bytes a second of a copy of a GiB within the device, bytes read plus bytes written (of 16 MiB where there is no GPU)."""
    source = torch.ones(2**30 if device.type == "cuda" else 2**24, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / replay_seconds(lambda: target.copy_(source), device)


def synchronize(device: torch.device) -> None:
    """Waits for all that the device was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _median_s(run: Callable[[], object], device: torch.device) -> float:
    spent = []
    for _ in range(REPEATS):
        synchronize(device)
        started = time.perf_counter()
        run()
        synchronize(device)
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)
