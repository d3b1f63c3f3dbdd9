"""A trace: which request comes when, for which model, how long."""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from muxjax.errors import require
from muxjax.workload.arrivals import US, Arrivals
from muxjax.workload.lengths import RequestLengths
from muxjax.workload.popularity import power_law


class Arrival(NamedTuple):
    """A request to come, known by its lengths alone.

    Args:
      prefix_group: requests of the same model and group begin with the same prefix_tokens tokens (the least of both, if they differ).
    """

    time_s: float
    model: str
    prompt_tokens: int
    output_tokens: int
    prefix_group: str | None = None
    prefix_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefixes:
    """Beginnings that the prompts of a stream share, the first group's most often.

    Args:
      groups: how many; tokens: of each, as far as the prompt goes; alpha: of the power law by which requests choose one.
    """

    groups: int
    tokens: int
    alpha: float = 1.0

    def __post_init__(self):
        require(self.groups >= 1, "groups", self.groups, "1 or more")
        require(self.tokens >= 1, "tokens", self.tokens, "1 or more")
        require(0 <= self.alpha <= 10, "alpha", self.alpha, "0 to 10")

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """[count] int64, indices of groups."""
        ends = np.cumsum(power_law(self.groups, self.alpha, 1.0))
        return np.searchsorted(ends[:-1], rng.random(count) * ends[-1], side="right")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The requests of one model.

    Args:
      shape: of the model, a name in muxjax/specs/published.py; None where the workload's source does not tell.
    """

    model: str
    arrivals: Arrivals
    lengths: RequestLengths
    prefixes: Prefixes | None = None
    shape: str | None = None


def generate(streams: Sequence[Stream], duration_s: float, seed: int) -> list[Arrival]:
    """Arrivals of all streams in order of time, in whole microseconds.

    Same seed, same trace, on every machine (muxjax/workload/arrivals.py says why); no stream depends on the others.

    Raises:
      ConfigError: a duration that is not over 0, to 1e9, a negative seed, two streams of one model.
    """
    require(0 < duration_s <= 1e9, "duration_s", duration_s, "over 0, to 1e9")
    require(seed >= 0, "seed", seed, "0 or more")
    models = Counter(stream.model for stream in streams)
    twice = [model for model, count in models.items() if count > 1]
    require(not twice, "streams", ", ".join(twice), "of one model each")
    trace = [arrival for stream in streams for arrival in _one(stream, duration_s, seed)]
    return sorted(trace, key=lambda arrival: (arrival.time_s, arrival.model))


def capped(trace: Sequence[Arrival], max_tokens: int) -> list[Arrival]:
    """The trace with prompts and outputs cut to fit a context of max_tokens, the prompt to all but one at most."""
    prompts = [min(arrival.prompt_tokens, max_tokens - 1) for arrival in trace]
    return [
        arrival._replace(
            prompt_tokens=prompt,
            output_tokens=min(arrival.output_tokens, max_tokens - prompt),
            prefix_tokens=min(arrival.prefix_tokens, prompt),
        )
        for arrival, prompt in zip(trace, prompts, strict=True)
    ]


def _one(stream: Stream, duration_s: float, seed: int) -> list[Arrival]:
    rng = np.random.default_rng([seed, zlib.crc32(stream.model.encode())])
    times = np.rint(stream.arrivals.times(duration_s, rng) * US) / US
    prompts, outputs = (side.draw(len(times), rng).tolist() for side in (stream.lengths.prompt, stream.lengths.output))
    trace = [Arrival(time, stream.model, *sizes) for time, *sizes in zip(times.tolist(), prompts, outputs, strict=True)]
    if stream.prefixes is None:
        return trace
    groups, tokens = stream.prefixes.draw(len(times), rng).tolist(), stream.prefixes.tokens
    return [
        arrival._replace(prefix_group=str(group), prefix_tokens=min(tokens, arrival.prompt_tokens))
        for arrival, group in zip(trace, groups, strict=True)
    ]
