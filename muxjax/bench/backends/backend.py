"""A backend: the processes that serve a fleet, as values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from muxjax.bench.backends.fleet import Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A process that serves some models over OpenAI's API.

    Args:
      name: of it among those of its backend; models: whom it serves.
      command: that starts it, at that port of this host; environment: beyond the client's own.
      health: of the path that answers 200 once all its models can be asked.
    """

    name: str
    models: tuple[str, ...]
    command: tuple[str, ...]
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    health: str = "/health"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


Ports = Callable[[], int]
"""A port that is free, another one each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A way to serve a fleet.

    Args:
      about: of it, in a few words.
      servers: the processes of a fleet.
      mps: they share the GPU through NVIDIA's MPS.
      needs: packages or programs it cannot be without, as they are imported or called.
    """

    name: str
    about: str
    servers: Callable[[Fleet, Ports], Sequence[Server]]
    mps: bool = False
    needs: tuple[str, ...] = ()
