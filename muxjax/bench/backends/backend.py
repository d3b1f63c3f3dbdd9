"""A backend: the processes that serve a fleet, as values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from muxjax.bench.backends.fleet import Fleet

HOST = "127.0.0.1"
"""Where servers listen: nobody else is to ask them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A process that serves some models over OpenAI's API.

    Args:
      name: of it among those of its backend; models: whom it serves.
      command: that starts it, at that port of HOST; environment: beyond the client's own.
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
        """Of its API."""
        return f"http://{HOST}:{self.port}/v1"

    @property
    def health_url(self) -> str:
        return f"http://{HOST}:{self.port}{self.health}"


def in_fewer_bits(fleet: Fleet, *, quantization: str | None, cache: str) -> list[str]:
    """Flags for what the fleet holds in fewer bits, which servers call alike, with a server's own words; none where nothing is."""
    weights = ["--quantization", str(quantization)] if fleet.quantization else []
    return weights + (["--kv-cache-dtype", cache] if fleet.has_fp8_cache else [])


def serve_flags(fleet: Fleet, port: int, cache_bytes: int) -> list[object]:
    """Flags of `muxjax serve`, which programs of ours that are held against it take too."""
    return [
        *("--host", HOST, "--port", port, "--dtype", fleet.dtype, "--load-format", fleet.load_format),
        *("--max-model-len", fleet.max_model_len, "--max-num-seqs", fleet.max_num_seqs, "--kv-cache-size", cache_bytes),
        *in_fewer_bits(fleet, quantization=fleet.quantization, cache=fleet.kv_cache_dtype),
    ]


Ports = Callable[[], int]
"""A port that is free, another one each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A way to serve a fleet.

    Args:
      about: of it, in a few words.
      servers: the processes of a fleet; raises ConfigError for one that it cannot serve.
      mps: they share the GPU through NVIDIA's MPS.
      program, package: what it cannot be without, as it is called, and as it is imported; "" for nothing.
    """

    name: str
    about: str
    servers: Callable[[Fleet, Ports], Sequence[Server]]
    mps: bool = False
    program: str = ""
    package: str = ""
