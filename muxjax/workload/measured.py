"""What a server's metrics say of the requests that came for each model between two looks."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from muxjax.errors import ConfigError

_CAME = ("vllm:request_success_total", "vllm:num_requests_running", "vllm:num_requests_waiting")
"""Requests that have ended, that run and that wait: all that ever came."""
_PROMPT, _OUTPUT = "vllm:prompt_tokens_total", "vllm:generation_tokens_total"


class Counts(NamedTuple):
    """Of one model, since the server's start."""

    requests: float = 0.0
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0


class CameFor(NamedTuple):
    """What came for one model: requests a second, and their mean lengths; None where there were too few to tell."""

    rate_rps: float
    prompt_tokens: float | None
    output_tokens: float | None


def counts_of(exposition: str) -> dict[str, Counts]:
    """Counts of each model that the metrics name.

    Args:
      exposition: Prometheus' text format.
    Raises:
      ConfigError: it is not that.
    """
    totals: dict[str, Counter[str]] = {field: Counter() for field in Counts._fields}
    fields = {**dict.fromkeys(_CAME, "requests"), _PROMPT: "prompt_tokens", _OUTPUT: "output_tokens"}
    try:
        samples = [sample for family in text_string_to_metric_families(exposition) for sample in family.samples]
    except ValueError as error:
        raise ConfigError(f"the metrics are not in Prometheus' format: {error}") from error
    for sample in samples:
        if sample.name in fields:
            totals[fields[sample.name]][sample.labels["model_name"]] += sample.value  # pyright: ignore[reportArgumentType]
    models = dict.fromkeys(model for total in totals.values() for model in total)
    return {model: Counts(*(float(totals[field][model]) for field in Counts._fields)) for model in models}


def came_between(before: Mapping[str, Counts], after: Mapping[str, Counts], seconds: float) -> dict[str, CameFor]:
    """What came for each model between two looks, so many seconds apart.

    A model of which fewer than one request came is taken to have half of one, so that it keeps a place.

    Raises:
      ConfigError: counts went down: the server was started anew in between.
    """
    found = {}
    for model, now in after.items():
        then = before.get(model, Counts())
        requests, prompt, output = (late - early for late, early in zip(now, then, strict=True))
        if min(requests, prompt, output) < 0:
            raise ConfigError(f"the counts of {model} went down: the server was started again meanwhile")
        enough = requests >= 1 and prompt > 0 and output > 0
        found[model] = CameFor(
            rate_rps=max(requests, 0.5) / seconds,
            prompt_tokens=prompt / requests if enough else None,
            output_tokens=output / requests if enough else None,
        )
    return found
