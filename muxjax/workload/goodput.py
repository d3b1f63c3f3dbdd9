"""The highest rate at which enough requests are within their objectives."""

import math
from collections.abc import Callable

FARTHEST = 64.0
"""Multiples of the rate that are tried at most, and parts of it."""
PRECISION = 1.03
"""Precision of the answer: the next higher rate tried is at most so many times as high."""


def search(attains: Callable[[float], float], least: float, *, most: float = FARTHEST) -> dict[float, float]:
    """The attainment at each multiple of the rate that was tried; `metrics.goodput` of them is the answer.

    Doubles or halves until one is good and the next one is not, then bisects in ratios. It takes for granted that what is too fast at
    one rate is so at any higher one.

    Args:
      attains: the attainment at a multiple of the rate.
      least: attainment of a good one, in (0, 1].
      most: highest multiple that may be tried, 1 or more, up to FARTHEST.
    """
    tried: dict[float, float] = {}

    def good(scale: float) -> bool:
        tried[scale] = attains(scale)
        return tried[scale] >= least

    ratio = 2.0 if good(1.0) else 0.5
    edge = 1.0
    while 1 / FARTHEST <= edge * ratio <= min(most, FARTHEST) and good(edge * ratio) == (ratio > 1):
        edge *= ratio
    low, high = sorted((edge, edge * ratio))
    if not tried.get(low, 0.0) >= least > tried.get(high, least):
        return tried
    while high / low > PRECISION:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if good(middle) else (low, middle)
    return tried
