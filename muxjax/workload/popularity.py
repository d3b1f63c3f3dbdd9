"""Who is asked: rates of models, the most popular first."""

import json
from importlib import resources
from typing import Any

from muxjax.errors import require


def power_law(models: int, alpha: float, top_rps: float) -> list[float]:
    """The i-th of 1, 2, .. models gets top_rps * i^-alpha.

    Raises:
      ConfigError: no model, a rate that is not over 0, or an alpha that is negative or makes the last rate vanish.
    """
    require(models >= 1, "models", models, "1 or more")
    require(0 < top_rps < float("inf"), "top_rps", top_rps, "over 0 and finite")
    require(0 <= alpha <= 10, "alpha", alpha, "0 to 10")
    return [top_rps * (i + 1) ** -alpha for i in range(models)]


def arena_27() -> list[float]:
    """Requests a second of the 27 models of the arena trace, at its own rate."""
    percent, total_rps = known("popularity", "arena-27")["percent"], known("arrivals", "arena-27")["rate_rps"]
    return [total_rps * share / sum(percent) for share in percent]


def lmsys_16() -> list[float]:
    """Requests a second of the 16 models of MuxServe's LMSYS replay, at its highest load."""
    return list(known("popularity", "lmsys-16")["rates_rps"])


def known(kind: str, name: str) -> dict[str, Any]:
    """Entry of a trace in data/arrivals.json, its source among it; kind is "arrivals" or "popularity"."""
    return json.loads(resources.files("muxjax.workload").joinpath("data/arrivals.json").read_text(encoding="utf-8"))[kind][name]
