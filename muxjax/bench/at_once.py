"""Concurrent streams of several models, all at once, and when each token of theirs came."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from muxjax.bench.client.address import address, reached
from muxjax.bench.client.open_loop import Ask, Client, Server, made
from muxjax.bench.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLoad:
    """Load on each model: so many streams at once, each of so many tokens in and out."""

    streams: int
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTiming:
    """Tokens of one stream, and when they came.

    Args:
      sent_s, events_s: when its request was sent, and when each event with a choice came; all streams on one clock.
    """

    tokens: int
    sent_s: float
    events_s: tuple[float, ...]

    @property
    def ttft_s(self) -> float:
        """From the request to the first token."""
        return self.events_s[0] - self.sent_s

    @property
    def latency_s(self) -> float:
        """From the request to the last token."""
        return self.events_s[-1] - self.sent_s

    @property
    def tpot_s(self) -> float:
        """Per output token, after the first."""
        return (self.latency_s - self.ttft_s) / (self.tokens - 1)

    def values(self) -> dict[str, float]:
        """For a run's record."""
        return {"tokens": self.tokens, "first_s": self.ttft_s, "end_s": self.latency_s, "events": len(self.events_s)}


async def run_load(url: str, models: Sequence[str], load: StreamLoad) -> dict[str, list[StreamTiming]]:
    """The load on all models at once, of the API at that URL: greedy completions, each of a prompt of its own.

    Raises:
      ConfigError: nobody is there.
      ConnectionError: a stream failed.
    """
    place, timings = await reached(address(url)), {name: list[StreamTiming]() for name in models}

    def keep(record: Record) -> None:
        if record.served is None:
            raise ConnectionError(f"{record.model}: {record.error}")
        events_s = tuple(accumulate((record.served.first_s, *record.gaps_s)))
        timings[record.model].append(StreamTiming(tokens=record.output_tokens, sent_s=record.sent_s, events_s=events_s))

    server = Server(places=dict.fromkeys(models, place), path="/completions")
    bodies = ((name, json.dumps(_body(name, seed, load)).encode()) for name in models for seed in range(load.streams))
    await Client(server, 0, keep).run(made(Ask(0.0, name, load.prompt_tokens, body) for name, body in bodies))
    return timings


def _body(model: str, seed: int, load: StreamLoad) -> dict[str, Any]:
    return {
        "model": model,
        "prompt": [(seed * 977 + i * 31) % 256 for i in range(load.prompt_tokens)],
        "max_tokens": load.output_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def steady_tpot_s(timings: Sequence[StreamTiming]) -> float:
    """Seconds per output token while every stream decodes: from the latest first token to the soonest last one.

    Raises:
      ValueError: one ended before another began.
    """
    begin, end = max(timing.events_s[0] for timing in timings), min(timing.events_s[-1] for timing in timings)
    if begin >= end:
        raise ValueError("a stream ended before another had its first token: ask for more output tokens")
    tokens = sum(sum(begin < at <= end for at in timing.events_s) * timing.tokens / len(timing.events_s) for timing in timings)
    return (end - begin) * len(timings) / tokens


def tokens_per_s(timings: Sequence[StreamTiming]) -> float:
    """Output tokens of all streams a second, from the first request to the last token."""
    span_s = max(timing.events_s[-1] for timing in timings) - min(timing.sent_s for timing in timings)
    return sum(timing.tokens for timing in timings) / span_s
