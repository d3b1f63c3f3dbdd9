"""An answer in the making, in the JSON of whatever API it was asked by."""

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from muxjax.server.catalog import Catalog
from muxjax.server.choice import Delta
from muxjax.server.generation import Generation, Stamp

Json = dict[str, Any]


class Framing(enum.Enum):
    """How a stream's events are told from each other."""

    EVENTS = enum.auto()
    """Server-sent events; a mark ends them."""
    NAMED_EVENTS = enum.auto()
    """The same with names, which are their types; the last of them ends the stream."""
    LINES = enum.auto()
    """JSON, one a line; the last of them ends the stream."""


class Reply(Protocol):
    """Takes the deltas of a generation, each once, and tells them."""

    framing: Framing

    def add(self, delta: Delta) -> None: ...

    def whole(self, deltas: Iterable[Delta]) -> Json:
        """The answer to a client that did not ask for a stream, made of all its deltas."""
        ...

    def events(self) -> Iterator[Json]:
        """Events of a stream for what was added since the last time."""
        ...

    def last_events(self) -> Iterator[Json]:
        """Events at the end of a stream."""
        ...

    def failure(self, error: Exception) -> Iterator[Json]:
        """Events at the end of a stream that an error ends."""
        ...


class Asked(NamedTuple):
    """What a client asked for, and how it is told the answer."""

    generation: Generation
    reply: Reply


class Endpoint(NamedTuple):
    """How an API's requests are read.

    Args:
      id_prefix: what the ids of its answers begin with.
      has_template: its prompts are made by a model's template, which may take its time.
    """

    id_prefix: str
    read: Callable[[Mapping[str, Any], Catalog, Stamp], Asked]
    has_template: bool = True
