"""Load generator over HTTP: concurrent streams of several models, and when each token of theirs came."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp


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


async def run_load(address: str, models: Sequence[str], load: StreamLoad) -> dict[str, list[StreamTiming]]:
    """The load on all models at once, of the API at that address."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        streams = [[time_stream(session, address, name, seed, load) for seed in range(load.streams)] for name in models]
        timings = await asyncio.gather(*(asyncio.gather(*of_model) for of_model in streams))
    return dict(zip(models, timings, strict=True))


async def time_stream(session: aiohttp.ClientSession, address: str, model: str, seed: int, load: StreamLoad) -> StreamTiming:
    """One streamed completion, greedy, of a prompt of its own."""
    body = {
        "model": model,
        "prompt": [(seed * 977 + i * 31) % 256 for i in range(load.prompt_tokens)],
        "max_tokens": load.output_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    sent_s, events, tokens = time.perf_counter(), [], 0
    async with session.post(f"{address}/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if event["choices"]:
                events.append(time.perf_counter())
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    return StreamTiming(tokens=tokens, sent_s=sent_s, events_s=tuple(events))


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
