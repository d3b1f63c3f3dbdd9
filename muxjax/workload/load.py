"""The requests that a simulation or a bench replays: drawn, or read from a file; slower or faster."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from muxjax.errors import ConfigError, require
from muxjax.workload import files, public
from muxjax.workload.trace import Arrival, Stream, generate

READERS = {"muxjax": files.read, "azure": public.azure, "burst-gpt": public.burst_gpt, "mooncake": public.mooncake}
"""Readers of traces in files, by format."""
MOST_REQUESTS = 10_000_000
"""Requests that may be drawn: some gigabytes, and hours of a simulation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Requests in order of arrival, at least one.

    Args:
      window_s: during which they come, infinity if only they tell.
    """

    arrivals: Sequence[Arrival]
    window_s: float

    def __post_init__(self):
        require(bool(self.arrivals), "trace", "none", "at least one request")

    @property
    def last_s(self) -> float:
        """When no more come."""
        return self.window_s if self.window_s < float("inf") else self.arrivals[-1].time_s


Source = Callable[[float], Load]
"""The load at a multiple of its rate."""


def drawn(streams: Sequence[Stream], duration_s: float, seed: int, rename: Mapping[str, str]) -> Source:
    """Requests of the streams during duration_s. Bursts get shorter as they come faster.

    Raises:
      ConfigError: a value outside its range.
    """
    rate_rps = sum(stream.arrivals.rate_rps for stream in streams)

    def at(scale: float) -> Load:
        drawn = rate_rps * scale * duration_s
        limit = f"so short that at most {MOST_REQUESTS} requests are drawn: {rate_rps * scale:g} come in a second"
        require(drawn <= MOST_REQUESTS, "duration_s", duration_s, limit)
        with tqdm(desc=f"drawing {drawn:.0f} requests", bar_format="{desc}: {elapsed}", leave=False, disable=None):
            arrivals = generate(streams, duration_s * scale, seed)
        require(bool(arrivals), "duration_s", duration_s, f"so long that a request comes: {rate_rps * scale:g} do in a second")
        return Load(arrivals=_faster(_renamed(arrivals, rename), scale), window_s=duration_s)

    return at


def counted(streams: Sequence[Stream], count: int, seed: int, rename: Mapping[str, str]) -> Source:
    """The first requests of the streams, so many.

    Raises:
      ConfigError: a value outside its range.
    """
    require(1 <= count <= MOST_REQUESTS, "num_prompts", count, f"1 to {MOST_REQUESTS}")
    duration_s, arrivals = count / sum(stream.arrivals.rate_rps for stream in streams), list[Arrival]()
    while len(arrivals) < count:
        duration_s *= 1.5
        arrivals = generate(streams, duration_s, seed)
    kept = _renamed(arrivals[:count], rename)
    return lambda scale: Load(arrivals=_faster(kept, scale), window_s=float("inf"))


def recorded(path: Path, form: str, rename: Mapping[str, str]) -> Source:
    """The requests of a file.

    Raises:
      ConfigError: no such format, or not a file of it.
    """
    require(form in READERS, "format", form, "one of " + ", ".join(READERS))
    arrivals = _renamed(READERS[form](path), rename)
    return lambda scale: Load(arrivals=_faster(arrivals, scale), window_s=float("inf"))


def renaming(pairs: Sequence[str]) -> dict[str, str]:
    """New names by old ones, of texts such as "ChatGPT=chat".

    Raises:
      ConfigError: one of another form, or one name twice.
    """
    names: dict[str, str] = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            raise ConfigError(f"rename must be OLD=NEW, got {pair!r}", field="rename")
        require(old not in names, "rename", pair, "of each name once")
        names[old] = new
    return names


def _renamed(arrivals: Iterable[Arrival], rename: Mapping[str, str]) -> list[Arrival]:
    return [arrival._replace(model=rename.get(arrival.model, arrival.model)) for arrival in arrivals]


def _faster(arrivals: list[Arrival], scale: float) -> list[Arrival]:
    return arrivals if scale == 1 else [arrival._replace(time_s=arrival.time_s / scale) for arrival in arrivals]
