"""What a client and its processes tell each other: lines of JSON on pipes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from muxjax.bench.client.address import address
from muxjax.bench.client.open_loop import Server

MOST_LINE = 2**28
"""Bytes: a prompt of millions of tokens."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """First to a process: whom it asks, and since when, on `exchange.clock`, which all processes of a machine share.

    Args:
      places: URL and peer of each model, as of `Address`.
    """

    places: Mapping[str, tuple[str, str]]
    path: str
    key: str
    timeout_s: float
    seed: int
    begin_s: float

    @classmethod
    def of(cls, server: Server, seed: int, begin_s: float) -> "Begin":
        places = {model: (place.url, place.peer) for model, place in server.places.items()}
        return cls(places=places, path=server.path, key=server.key, timeout_s=server.timeout_s, seed=seed, begin_s=begin_s)

    @property
    def server(self) -> Server:
        places = {model: replace(address(url), peer=peer) for model, (url, peer) in self.places.items()}
        return Server(places=places, path=self.path, key=self.key, timeout_s=self.timeout_s)


def encoded(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def decoded(data: bytes, kind: type[T]) -> T:
    return msgspec.json.decode(data, type=kind)
