"""What comes for a running server, by its metrics: two looks, a window apart."""

import time
import urllib.request
from collections.abc import Mapping

from muxjax.bench.client.address import checked, server_url
from muxjax.errors import ConfigError, require
from muxjax.placement.problem import Problem
from muxjax.progress import followed
from muxjax.server.plans.came import with_what_came
from muxjax.workload.measured import Counts, counts_of

MOST_WINDOW_S = 86400.0
_ANSWER_S = 10.0
_MOST_BYTES = 2**26


def measured_problem(problem: Problem, url: str, window_s: float) -> Problem:
    """The problem with what comes for the server in the next seconds; of models that it does not serve, the problem's own stays.

    Args:
      url: of its metrics, or of the server.
    Raises:
      ConfigError: the server does not answer, or its metrics are no such.
    """
    require(0 < window_s <= MOST_WINDOW_S, "window", window_s, f"over 0, to {MOST_WINDOW_S:g} seconds")
    began_s, before = time.monotonic(), _look(url)
    _wait(window_s)
    after, seconds = _look(url), time.monotonic() - began_s
    if not any(demand.name in after for demand in problem.demands):
        raise ConfigError(f"{url} serves none of the problem's models", field="from_metrics")
    return with_what_came(problem, before, after, seconds)


def _wait(seconds: float) -> None:
    with followed("measuring seconds", " s", round(seconds)) as one_more:
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(1.0, left_s))
            one_more()


def _look(url: str) -> Mapping[str, Counts]:
    """Raises ConfigError: no answer, or another one than metrics."""
    address = checked(url) if url.rstrip("/").endswith("/metrics") else server_url(url) + "/metrics"
    try:
        with urllib.request.urlopen(address, timeout=_ANSWER_S) as answer:
            text = answer.read(_MOST_BYTES).decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(f"cannot read the metrics at {address}: {reason}", field="from_metrics") from error
    return counts_of(text)
