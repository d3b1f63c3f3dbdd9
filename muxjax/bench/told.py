"""Many streams at once, with what each event said and when it came."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from muxjax.bench.client.address import address, reached
from muxjax.bench.client.exchange import Exchange, Pieces, lines, status_of


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


async def record_streams(url: str, path: str, bodies: Sequence[dict[str, Any]]) -> list[RecordedStream]:
    """Streamed completions, all asked for at once; whoever cancels it hangs up on them.

    Args:
      path: below that of the API at the URL, such as "/completions".
    """
    server = await reached(address(url))
    exchanges = [Exchange(server.request(path, json.dumps(body).encode())) for body in bodies]
    await asyncio.gather(*(exchange.run(server) for exchange in exchanges))
    return [read(exchange.pieces) for exchange in exchanges]


def read(pieces: Pieces) -> RecordedStream:
    """Stream in what a connection brought.

    Raises:
      ValueError: it is no stream of events.
    """
    if status_of(pieces) != 200:
        raise ValueError(f"no stream, but {b''.join(data for _, data in pieces)[:500]!r}")
    events, name, done = [], "", False
    for at_s, line in lines(pieces):
        done = done or line == b"data: [DONE]"
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            name = event["id"]
            if event["choices"] and event["choices"][0]["text"]:
                events.append(Event(text=event["choices"][0]["text"], at_s=at_s))
    return RecordedStream(id=name, events=tuple(events), complete=done)
