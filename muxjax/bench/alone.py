"""What requests take on an idle server, of which objectives are multiples."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from muxjax.bench.records import AloneFit
from muxjax.workload.load import Load
from muxjax.workload.metrics import Alone, Served
from muxjax.workload.trace import Arrival


def asked_alone(load: Load, count: int) -> dict[str, list[tuple[int, Arrival]]]:
    """Requests of each model that are asked one at a time before the run, with their numbers: short, middling and long prompts.

    Args:
      count: of each model, of which the first is only to warm the server up.
    """
    by_model: dict[str, list[tuple[int, Arrival]]] = {}
    for number, arrival in enumerate(load.arrivals):
        by_model.setdefault(arrival.model, []).append((number, arrival))
    for own in by_model.values():
        own.sort(key=lambda one: one[1].prompt_tokens)
    return {model: [own[place] for place in _spread(len(own), count)] for model, own in by_model.items()}


def fitted(served: Sequence[Served]) -> AloneFit | None:
    """A line through the times of requests that were asked alone, none of its parts negative; None of no requests."""
    if not served:
        return None
    prompts, firsts_s = np.array([one.prompt_tokens for one in served]), np.array([one.ttft_s for one in served])
    token_s, base_s = np.polyfit(prompts, firsts_s, 1) if len(set(prompts.tolist())) > 1 else (0.0, float(np.median(firsts_s)))
    if token_s < 0:
        token_s, base_s = 0.0, float(np.median(firsts_s))
    if base_s < 0:
        token_s, base_s = float(np.dot(prompts, firsts_s) / np.dot(prompts, prompts)), 0.0
    steps_s = [one.tpot_s for one in served if one.output_tokens > 1]
    return AloneFit(base_s=float(base_s), token_s=float(token_s), decode_s=float(np.median(steps_s)) if steps_s else 0.0)


def of_fits(fits: Mapping[str, AloneFit]) -> Callable[[Served], Alone]:
    """What a request of one of these models takes alone."""

    def alone(one: Served) -> Alone:
        fit = fits[one.model]
        return Alone(prefill_s=fit.base_s + fit.token_s * one.prompt_tokens, decode_s=fit.decode_s)

    return alone


def _spread(size: int, count: int) -> list[int]:
    """Places from the first to the last; of one the middle."""
    if count == 1:
        return [size // 2]
    return [round(i * (size - 1) / (count - 1)) for i in range(count)]
