"""A process of a client's: asks come on its standard input, records go to its standard output. Started by `processes`."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator

from muxjax.bench.client.messages import MOST_LINE, Begin, decoded, encoded
from muxjax.bench.client.open_loop import Ask, Client


async def main() -> None:
    reader = asyncio.StreamReader(limit=MOST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    asyncio.get_running_loop().add_reader(sys.stdout.fileno(), os._exit, 1)  # nobody reads it any more: whose process this is was killed
    _tell(b"\n")  # it is there, and its imports are done
    begin = decoded(await reader.readline(), Begin)
    client = Client(begin.server, begin.seed, lambda record: _tell(encoded(record)))
    await client.run(_asks(reader), begin.begin_s)
    _tell(encoded(client.end(complete=True)))


async def _asks(reader: asyncio.StreamReader) -> AsyncIterator[Ask]:
    while data := await reader.readline():
        yield decoded(data, Ask)


def _tell(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(main())
