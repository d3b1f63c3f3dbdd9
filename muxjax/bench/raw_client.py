"""Many streams at once from a client that costs little: bytes are written down with their time, and read when all is over."""

import asyncio
import json
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Event of a stream, and when its last byte came (`time.monotonic`)."""

    text: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedStream:
    """Events of one stream.

    Args:
      id: the server's.
      events: those with text.
      complete: the stream came to its proper end.
    """

    id: str
    events: tuple[Event, ...]
    complete: bool

    @property
    def first_s(self) -> float:
        return self.events[0].at_s

    @property
    def last_s(self) -> float:
        return self.events[-1].at_s


async def record_streams(address: str, path: str, bodies: Sequence[dict[str, Any]]) -> list[RecordedStream]:
    """Streamed completions, all asked for at once; whoever cancels it hangs up on them."""
    where = urlsplit(address)
    host, port = where.hostname or "127.0.0.1", where.port or 80
    loop = asyncio.get_running_loop()
    connections = [_Connection(_request(path, body), loop.create_future()) for body in bodies]
    try:
        await asyncio.gather(*(loop.create_connection(lambda one=connection: one, host, port) for connection in connections))
        await asyncio.gather(*(connection.closed for connection in connections))
    finally:
        for connection in connections:
            connection.hang_up()
    return [read(connection.pieces) for connection in connections]


class _Connection(asyncio.Protocol):
    """Writes down what comes, and when."""

    def __init__(self, request: bytes, closed: asyncio.Future[None]):
        self.pieces: list[tuple[float, bytes]] = []
        self.closed = closed
        self._request = request
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        transport.write(self._request)

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self.pieces.append((time.monotonic(), data))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


def _request(path: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = ["Host: muxjax", "Connection: close", "Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([f"POST {path} HTTP/1.1", *head, "", ""]).encode() + content


def read(pieces: Sequence[tuple[float, bytes]]) -> RecordedStream:
    """Stream in the bytes of a connection.

    Raises:
      ValueError: they are no stream of events.
    """
    whole = b"".join(data for _, data in pieces)
    head, _, _ = whole.partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise ValueError(f"no stream, but {whole[:500]!r}")
    ends = list(accumulate(len(data) for _, data in pieces))
    events, name, done = [], "", False
    for end, content in _chunks(whole, len(head) + 4):
        at_s = pieces[bisect_left(ends, end)][0]
        for line in content.split(b"\n"):
            done = done or line == b"data: [DONE]"
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                name = event["id"]
                if event["choices"] and event["choices"][0]["text"]:
                    events.append(Event(text=event["choices"][0]["text"], at_s=at_s))
    return RecordedStream(id=name, events=tuple(events), complete=done)


def _chunks(whole: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Content of HTTP's chunks, and where each ends."""
    while at < len(whole):
        line_end = whole.index(b"\r\n", at)
        size = int(whole[at:line_end], 16)
        begin = line_end + 2
        yield begin + size, whole[begin : begin + size]
        at = begin + size + 2
