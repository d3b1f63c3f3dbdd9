"""How long prompts and outputs are: distributions given by quantiles of public traces."""

import json
import math
from dataclasses import dataclass
from importlib import resources
from statistics import NormalDist

import numpy as np

from muxjax.errors import ConfigError, require


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """A distribution of token counts, its inverse CDF linear between the quantiles.

    Args:
      percentiles: 0 to 100, ascending; tokens: the count at each, never falling.
      scale: multiplies every draw.
    Raises:
      ConfigError: the scale is not over 0 and finite.
    """

    percentiles: tuple[float, ...]
    tokens: tuple[float, ...]
    scale: float = 1.0

    def __post_init__(self):
        assert self.percentiles[0] == 0 and self.percentiles[-1] == 100, "the distribution ends at percentiles 0 and 100"
        require(0 < self.scale < float("inf"), "scale", self.scale, "over 0 and finite")

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """[count] int64, at least 1."""
        drawn = np.interp(rng.random(count) * 100, self.percentiles, self.tokens)
        return np.maximum(1, np.rint(drawn * self.scale)).astype(np.int64)

    @property
    def mean_tokens(self) -> float:
        middles = np.add(self.tokens[1:], self.tokens[:-1]) / 2
        return float(np.dot(np.diff(self.percentiles) / 100, middles)) * self.scale


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLengths:
    """Prompt and output lengths of a workload, independent of each other."""

    prompt: Lengths
    output: Lengths


def fixed(tokens: int) -> Lengths:
    """Always so many."""
    return Lengths(percentiles=(0, 100), tokens=(tokens, tokens))


def of_trace(name: str, *, scale: float = 1.0) -> RequestLengths:
    """Lengths of a public trace such as "sharegpt", all multiplied by scale.

    Raises:
      ConfigError: no trace of that name is known.
    Source: muxjax/workload/data/lengths.json, which names each trace's own.
    """
    traces = json.loads(resources.files("muxjax.workload").joinpath("data/lengths.json").read_text(encoding="utf-8"))["traces"]
    if name not in traces:
        raise ConfigError(f"lengths must be one of {', '.join(traces)}, got {name!r}", field="lengths")
    return RequestLengths(prompt=_read(traces[name]["input"], scale), output=_read(traces[name]["output"], scale))


def log_normal(mean_tokens: float, *, sigma: float, least: int, most: int) -> Lengths:
    """The distribution that `draw_log_normal` draws from, at every half percent."""
    median, halves = mean_tokens * math.exp(-(sigma**2) / 2), [step / 2 for step in range(1, 200)]
    inner = [median * math.exp(sigma * NormalDist().inv_cdf(percent / 100)) for percent in halves]
    tokens = tuple(min(max(tokens, least), most) for tokens in (least, *inner, most))
    return Lengths(percentiles=(0, *halves, 100), tokens=tokens)


def draw_log_normal(count: int, mean_tokens: float, *, sigma: float, least: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """[count] int64 within least and most, of a log-normal distribution that has that mean before it is cut there."""
    drawn = rng.lognormal(np.log(mean_tokens) - sigma**2 / 2, sigma, count)
    return np.clip(np.rint(drawn), least, most).astype(np.int64)


def _read(side: dict, scale: float) -> Lengths:
    """Where a source tells no maximum, the last quantile it tells stands for it."""
    quantiles = [(0, 1), *side["quantiles"]]
    if quantiles[-1][0] < 100:
        quantiles.append((100, quantiles[-1][1]))
    percentiles, tokens = zip(*quantiles, strict=True)
    return Lengths(percentiles=percentiles, tokens=tokens, scale=scale)
