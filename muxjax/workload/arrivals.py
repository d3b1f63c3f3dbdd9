"""When requests come, and to whom."""

import numpy as np


def poisson(rate_rps: float, duration_s: float, rng: np.random.Generator) -> np.ndarray:
    """Arrival times in [0, duration_s), ascending."""
    count = rng.poisson(rate_rps * duration_s)
    return np.sort(rng.uniform(0, duration_s, count))


def power_law(models: int, alpha: float, top_rps: float) -> list[float]:
    """Rates of models by popularity: the i-th of 1, 2, .. gets top_rps * i^-alpha."""
    return [top_rps * (i + 1) ** -alpha for i in range(models)]
