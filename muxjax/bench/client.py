"""Concurrent HTTP streams over models of random weights: who asks, and when each token came."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from muxjax.specs.config import to_hf_config
from muxjax.types import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of each model: so many streams at once, each of so many tokens in and out."""

    streams: int
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one stream brought.

    Args:
      asked_s, times_s: when it was asked for, and when each event with a choice came; all streams on one clock.
    """

    tokens: int
    asked_s: float
    times_s: tuple[float, ...]

    @property
    def first_s(self) -> float:
        """From the request to the first token."""
        return self.times_s[0] - self.asked_s

    @property
    def end_s(self) -> float:
        """From the request to the last token."""
        return self.times_s[-1] - self.asked_s

    @property
    def token_s(self) -> float:
        """Per output token, after the first."""
        return (self.end_s - self.first_s) / (self.tokens - 1)

    def values(self) -> dict[str, float]:
        """For a run's record."""
        return {"tokens": self.tokens, "first_s": self.first_s, "end_s": self.end_s, "events": len(self.times_s)}


def dummy_models(folder: Path, specs: Mapping[str, ModelSpec]) -> dict[str, Path]:
    """A folder for each model with nothing but a config.json: enough for dummy weights."""
    paths = {name: folder / name for name in specs}
    for name, path in paths.items():
        path.mkdir()
        (path / "config.json").write_text(json.dumps(to_hf_config(specs[name])))
    return paths


async def ask(address: str, models: Sequence[str], load: Load) -> dict[str, list[Answer]]:
    """The load on all models at once, of the API at that address."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        asked = [[stream(session, address, name, seed, load) for seed in range(load.streams)] for name in models]
        answers = await asyncio.gather(*(asyncio.gather(*asks) for asks in asked))
    return dict(zip(models, answers, strict=True))


async def stream(session: aiohttp.ClientSession, address: str, model: str, seed: int, load: Load) -> Answer:
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
    asked_s, times, tokens = time.perf_counter(), [], 0
    async with session.post(f"{address}/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if event["choices"]:
                times.append(time.perf_counter())
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    return Answer(tokens=tokens, asked_s=asked_s, times_s=tuple(times))


def steady_token_s(answers: Sequence[Answer]) -> float:
    """Seconds per output token while every stream decodes: from the latest first token to the soonest last one.

    Raises:
      ValueError: one ended before another began.
    """
    begin, end = max(answer.times_s[0] for answer in answers), min(answer.times_s[-1] for answer in answers)
    if begin >= end:
        raise ValueError("a stream ended before another had its first token: ask for more output tokens")
    came = sum(sum(begin < at <= end for at in answer.times_s) * answer.tokens / len(answer.times_s) for answer in answers)
    return (end - begin) * len(answers) / came


def tokens_per_s(answers: Sequence[Answer]) -> float:
    """Output tokens of all streams a second, from the first request to the last token."""
    span_s = max(answer.times_s[-1] for answer in answers) - min(answer.asked_s for answer in answers)
    return sum(answer.tokens for answer in answers) / span_s
