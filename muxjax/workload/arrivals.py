"""When requests come: processes of a mean rate, whose `times` are ascending seconds in [0, duration_s).

A window of any length sees the rate from its very start, however clumped the requests are.

Of a numpy Generator (PCG64) only `random`, `poisson`, `standard_gamma` and `standard_exponential` are drawn from. The first is exact
everywhere; the others take logarithms, whose last bit differs among machines, so the times that they yield are rounded to microseconds
before they are summed up. numpy may change these streams in a new version (NEP 19); a test holds the traces that they give today.
"""

from dataclasses import dataclass

import numpy as np

from muxjax.errors import require

US = 1e6
"""Microseconds in a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson:
    """Requests that know nothing of each other.

    Raises:
      ConfigError: the rate is not over 0, to 100,000 (times are told apart by microseconds); so for all processes here.
    """

    rate_rps: float

    def __post_init__(self):
        _check_rate("rate_rps", self.rate_rps)

    def times(self, duration_s: float, rng: np.random.Generator) -> np.ndarray:
        count = rng.poisson(self.rate_rps * duration_s)
        return np.sort(rng.random(count) * duration_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gamma:
    """Gaps of a gamma distribution, independent of each other.

    Args:
      cv: coefficient of variation of the gaps, 0.01 to 100: 1 is Poisson, more comes in clumps.
    """

    rate_rps: float
    cv: float

    def __post_init__(self):
        _check_rate("rate_rps", self.rate_rps)
        require(0.01 <= self.cv <= 100, "cv", self.cv, "0.01 to 100")

    def times(self, duration_s: float, rng: np.random.Generator) -> np.ndarray:
        shape, scale_us = self.cv**-2, self.cv**2 * US / self.rate_rps
        # The window opens within a gap, a long one more likely: such gaps have shape + 1, and a uniform part of one is left.
        window_us, block = duration_s * US, int(self.rate_rps * duration_s) + 16
        now_us = round(min(rng.random() * rng.standard_gamma(shape + 1) * scale_us, window_us))
        blocks = []
        while now_us < window_us:
            gaps_us = np.rint(np.minimum(rng.standard_gamma(shape, block) * scale_us, window_us)).astype(np.int64)
            ends_us = now_us + np.cumsum(gaps_us)
            blocks.append(ends_us - gaps_us)
            now_us = int(ends_us[-1])
        return _before(duration_s, np.concatenate(blocks) / US if blocks else np.empty(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class OnOff:
    """Poisson while it is on, nothing while it is off; phases of exponential lengths.

    Args:
      rate_rps: in the mean of both phases; on_s, off_s: mean lengths of the phases, 0.001 or more.
    """

    rate_rps: float
    on_s: float
    off_s: float

    def __post_init__(self):
        for field in ("on_s", "off_s"):
            require(1e-3 <= getattr(self, field) < float("inf"), field, getattr(self, field), "0.001 or more and finite")
        _check_rate("rate_rps", self.rate_rps)
        _check_rate("peak_rps", self.peak_rps)

    @property
    def on_frac(self) -> float:
        return self.on_s / (self.on_s + self.off_s)

    @property
    def peak_rps(self) -> float:
        """The rate while it is on."""
        return self.rate_rps / self.on_frac

    @property
    def cv(self) -> float:
        """Coefficient of variation of the gaps, of an interrupted Poisson process (Kuczura 1973)."""
        switching = 1 / self.on_s + 1 / self.off_s
        return (1 + 2 * self.peak_rps / (self.on_s * switching**2)) ** 0.5

    def times(self, duration_s: float, rng: np.random.Generator) -> np.ndarray:
        begins_S, lengths_S = self._on_phases(duration_s, rng)
        ends_S = np.cumsum(lengths_S)
        on_clock = Poisson(rate_rps=self.peak_rps).times(float(ends_S[-1]), rng)
        phase = np.searchsorted(ends_S, on_clock, side="right")
        return _before(duration_s, begins_S[phase] + on_clock - (ends_S - lengths_S)[phase])

    def _on_phases(self, duration_s: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Begin and length of the phases that begin within duration_s and of one beyond."""
        begins, lengths = [], []
        now_s = 0.0 if rng.random() < self.on_frac else _exponential(self.off_s, rng)
        while not begins or begins[-1] < duration_s:
            begins.append(now_s)
            lengths.append(_exponential(self.on_s, rng))
            now_s += lengths[-1] + _exponential(self.off_s, rng)
        return np.array(begins), np.array(lengths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deterministic:
    """Evenly spaced, the first at 0."""

    rate_rps: float

    def __post_init__(self):
        _check_rate("rate_rps", self.rate_rps)

    def times(self, duration_s: float, rng: np.random.Generator) -> np.ndarray:
        return _before(duration_s, np.arange(int(self.rate_rps * duration_s) + 1) / self.rate_rps)


Arrivals = Poisson | Gamma | OnOff | Deterministic


def _exponential(mean_s: float, rng: np.random.Generator) -> float:
    return round(rng.standard_exponential() * mean_s * US) / US


def _before(duration_s: float, times: np.ndarray) -> np.ndarray:
    return times[times < duration_s]


def _check_rate(field: str, value: float) -> None:
    require(0 < value <= 1e5, field, value, "over 0, to 100000")
