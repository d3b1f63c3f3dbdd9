"""A trace: which request comes when, for which model, how long."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from muxjax.workload.arrivals import poisson
from muxjax.workload.lengths import RequestLengths


class Arrival(NamedTuple):
    """A request to come, known by its lengths alone."""

    time_s: float
    model: str
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The requests of one model."""

    model: str
    rate_rps: float
    lengths: RequestLengths


def generate(streams: Sequence[Stream], duration_s: float, seed: int) -> list[Arrival]:
    """Poisson arrivals of all streams in order of time; same seed, same trace, and no stream depends on the others."""
    trace = [arrival for stream in streams for arrival in _one(stream, duration_s, seed)]
    return sorted(trace)


def capped(trace: Sequence[Arrival], max_tokens: int) -> list[Arrival]:
    """The trace with prompts and outputs cut to fit a context of max_tokens, the prompt to all but one at most."""
    prompts = [min(arrival.prompt_tokens, max_tokens - 1) for arrival in trace]
    return [
        arrival._replace(prompt_tokens=prompt, output_tokens=min(arrival.output_tokens, max_tokens - prompt))
        for arrival, prompt in zip(trace, prompts, strict=True)
    ]


def _one(stream: Stream, duration_s: float, seed: int) -> list[Arrival]:
    rng = np.random.default_rng([seed, zlib.crc32(stream.model.encode())])
    times = poisson(stream.rate_rps, duration_s, rng)
    prompts, outputs = stream.lengths.prompt.draw(len(times), rng), stream.lengths.output.draw(len(times), rng)
    return [Arrival(*row) for row in zip(times.tolist(), [stream.model] * len(times), prompts.tolist(), outputs.tolist(), strict=True)]
