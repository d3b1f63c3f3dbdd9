"""An answer in the making, in the JSON of whatever API it was asked by."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from muxjax.server.catalog import Catalog
from muxjax.server.choice import Delta
from muxjax.server.generation import Generation, Stamp

Json = dict[str, Any]


class Reply(Protocol):
    """Takes the deltas of a generation, each once, and tells them."""

    named: bool
    """Events of a stream have names, which are their types, and the last of them ends it; otherwise a mark does."""

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
