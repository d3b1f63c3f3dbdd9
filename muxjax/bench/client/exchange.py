"""A request on a connection of its own, cheaply: bytes are written down with their time, and read when all is over."""

import asyncio
import re
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from muxjax.bench.client.address import Address

Pieces = Sequence[tuple[float, bytes]]
"""What a connection brought, and when (`clock`)."""
clock = time.monotonic
_BUFFER = memoryview(bytearray(2**16))
"""Of all connections, which take out of it what comes before another is read; asyncio's own takes 256 KiB for each event."""
_HEAD_END, _LAST_CHUNK = b"\r\n\r\n", b"\r\n0\r\n\r\n"


class Exchange(asyncio.BufferedProtocol):
    """Sends one request and writes down the answer until its end: of a body in chunks, of a told length, or of the connection."""

    def __init__(self, request: bytes):
        self.pieces: list[tuple[float, bytes]] = []
        self._request = request
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.WriteTransport | None = None
        self._received = 0
        self._until = 0
        self._chunked = False
        self._tail = b""

    async def run(self, server: Address) -> None:
        """Returns when the answer has ended or the connection has; whoever cancels it hangs up.

        Raises:
          OSError: there is no connection, or it broke.
        """
        try:
            await server.connect(self)
            await self._ended
        finally:
            if self._transport is not None:
                self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        transport.write(self._request)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(_BUFFER[:nbytes])
        self.pieces.append((clock(), data))
        self._received += len(data)
        self._tail = (self._tail + data)[-len(_LAST_CHUNK) :]
        if not self._until and not self._chunked:
            self._read_head()
        # JSON and events have no bare CR, so that no text of theirs looks like the last chunk.
        if (self._chunked and self._tail == _LAST_CHUNK) or 0 < self._until <= self._received:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)

    def _end(self, error: Exception | None) -> None:
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)

    def _read_head(self) -> None:
        head, end, _ = b"".join(data for _, data in self.pieces).partition(_HEAD_END)
        if not end:
            return
        self._chunked = is_chunked(head)
        length = re.search(rb"(?i)\r\ncontent-length: *(\d{1,18}) *(?:\r\n|$)", head)
        if not self._chunked:
            self._until = len(head) + len(end) + int(length[1]) if length else 2**62


def status_of(pieces: Pieces) -> int:
    """HTTP's, 0 where there is none."""
    line = re.match(rb"HTTP/1\.[01] (\d{3})\b", b"".join(data for _, data in pieces[:16]))
    return int(line[1]) if line else 0


def is_chunked(head: bytes) -> bool:
    return re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head) is not None


def lines(pieces: Pieces) -> Iterator[tuple[float, bytes]]:
    """Lines of the answer's body, and when the last byte of each came; a part of one at the end is one."""
    whole = b"".join(data for _, data in pieces)
    head, found, _ = whole.partition(_HEAD_END)
    if not found:
        return
    ends = list(accumulate(len(data) for _, data in pieces))
    begin, rest = len(head) + len(found), b""
    for at, content in _chunks(whole, begin) if is_chunked(head) else [(begin, whole[begin:])]:
        *ended, last = content.split(b"\n")
        for line in ended:
            at += len(line) + 1
            yield pieces[bisect_left(ends, at)][0], rest + line
            rest = b""
        rest += last
    if rest:
        yield pieces[-1][0], rest


def _chunks(whole: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Where each of HTTP's chunks begins, and its content; of one that broke off its beginning.

    Raises:
      ValueError: there are none.
    """
    while (line_end := whole.find(b"\r\n", at)) >= 0:
        size, begin = int(whole[at:line_end].partition(b";")[0], 16), line_end + 2
        if not size:
            return
        yield begin, whole[begin : begin + size]
        at = begin + size + 2
