"""muxjax: all models in one process, under any policy; or one process a model, as others have them."""

import sys
from collections.abc import Callable, Sequence

from muxjax.bench.backends.backend import Backend, Ports, Server, serve_flags
from muxjax.bench.backends.fleet import Fleet, Member

THREADS = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
"""Variable by which MPS gives a process a share of the multiprocessors."""
LEAST_PERCENT = 5


def together(name: str, about: str, *flags: str) -> Backend:
    """One process, one cache."""

    def servers(fleet: Fleet, ports: Ports) -> Sequence[Server]:
        return [_server(name, fleet, fleet.members, ports(), fleet.cache_bytes, *flags)]

    return Backend(name=name, about=about, servers=servers)


def apart(
    name: str,
    about: str,
    *,
    percent: Callable[[Member], int | None] = lambda member: None,
    cache_bytes: Callable[[Fleet, Member], int] = Fleet.own_cache_bytes,
) -> Backend:
    """A process a model, with a cache of its own.

    Args:
      percent: of the multiprocessors, for a model; None for all.
      cache_bytes: of a model's cache.
    """

    def servers(fleet: Fleet, ports: Ports) -> Sequence[Server]:
        return [_alone(fleet, member, ports(), percent(member), cache_bytes(fleet, member)) for member in fleet.members]

    return Backend(name=name, about=about, servers=servers, mps=True)


def share_percent(member: Member) -> int:
    """Of the multiprocessors, as MPS takes it."""
    return max(LEAST_PERCENT, round(100 * member.compute_share))


def all_of_the_cache(fleet: Fleet, member: Member) -> int:
    """As much as all models have together elsewhere."""
    return fleet.cache_bytes


def _alone(fleet: Fleet, member: Member, port: int, percent: int | None, cache_bytes: int) -> Server:
    """Told how much of the memory is its own, since XLA takes all that it may have at once."""
    variables = {} if percent is None else {THREADS: str(percent)}
    fraction = f"{fleet.memory_fraction(member, cache_bytes):.4f}"
    return _server(member.name, fleet, [member], port, cache_bytes, "--gpu-memory-fraction", fraction, **variables)


def _server(name: str, fleet: Fleet, members: Sequence[Member], port: int, cache_bytes: int, *flags: str, **environment: str) -> Server:
    paths = [f"{member.name}={member.path}" for member in members]
    told = [*serve_flags(fleet, port, cache_bytes), "--compilation-cache-dir", fleet.programs]
    return Server(
        name=name,
        models=tuple(member.name for member in members),
        command=(sys.executable, "-m", "muxjax", "serve", *paths, *map(str, told), "--wait-for-all", *flags),
        port=port,
        environment=environment,
        health="/ready",
    )
