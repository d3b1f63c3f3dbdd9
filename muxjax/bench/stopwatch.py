"""Stopwatches: clients that note how long the server lets them wait, each in a thread and on a connection of its own."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_PAUSE_S = 0.01


@dataclass(slots=True, kw_only=True)
class Waits:
    """Seconds that clients waited while they were watched.

    Args:
      health_s: for each answer of /health.
      token_s: for each event of a stream that had text, the first one of each stream included.
      memory_bytes: of the server's process, now and then.
    """

    health_s: list[float] = field(default_factory=list)
    token_s: list[float] = field(default_factory=list)
    memory_bytes: list[int] = field(default_factory=list)


@contextmanager
def watched(address: str, *, process: int, stream: Mapping[str, object], key: str) -> Iterator[Waits]:
    """Waits of a client that polls /health and of one that reads one stream after another, while the block runs.

    Whoever waits at its end is waited for. A wait that begins in the block counts whole.

    Args:
      process: the server's.
      stream: body of the completion.
      key: of the client that reads streams.
    Raises:
      ConnectionError: a stopwatch got no proper answer, so that nothing is known.
    """
    waits, over, faults = Waits(), threading.Event(), list[Exception]()

    def repeated(look: Callable[[], None]) -> None:
        try:
            while not over.is_set():
                look()
        except Exception as error:
            faults.append(error)

    health, reader = connection(address), connection(address)
    looks = (
        lambda: waits.health_s.append(_health_s(health)),
        lambda: waits.token_s.extend(_token_waits(reader, stream, key, over)),
        lambda: waits.memory_bytes.append(_memory_bytes(process)),
    )
    threads = [threading.Thread(target=repeated, args=(look,)) for look in looks]
    for thread in threads:
        thread.start()
    try:
        yield waits
    finally:
        over.set()
        for thread in threads:
            thread.join()
        health.close()
        reader.close()
    if faults:
        raise ConnectionError(f"a stopwatch stopped: {faults[0]!r}") from faults[0]


def connection(address: str) -> http.client.HTTPConnection:
    """One to the server at that address, not yet open."""
    where = urlsplit(address)
    return http.client.HTTPConnection(where.hostname or "127.0.0.1", where.port, timeout=300)


def quantile(seconds: Sequence[float], percent: int) -> float:
    """Of the waits, so many percent are at most that."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _health_s(client: http.client.HTTPConnection) -> float:
    began_s = time.monotonic()
    client.request("GET", "/health")
    _read(client, 200)
    waited_s = time.monotonic() - began_s
    time.sleep(_PAUSE_S)
    return waited_s


def _token_waits(client: http.client.HTTPConnection, body: Mapping[str, object], key: str, over: threading.Event) -> Iterator[float]:
    """One stream, which is left when all is over."""
    last_s = time.monotonic()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    client.request("POST", "/v1/completions", json.dumps({**body, "stream": True}), headers)
    response = client.getresponse()
    if response.status != 200:
        raise ConnectionError(f"{response.status} {response.read(500)!r}")
    while line := response.readline():
        if line.startswith(b"data: {") and json.loads(line[6:])["choices"]:
            now_s = time.monotonic()
            yield now_s - last_s
            last_s = now_s
            if over.is_set():
                client.close()
                return


def _read(client: http.client.HTTPConnection, status: int) -> bytes:
    response = client.getresponse()
    data = response.read()
    if response.status != status:
        raise ConnectionError(f"{response.status} {data[:500]!r}")
    return data


def _memory_bytes(process: int) -> int:
    """Resident now."""
    time.sleep(_PAUSE_S)
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
