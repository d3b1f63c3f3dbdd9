"""Quotas of head blocks that each model may hold: a first split by demand, then transfers by use."""

from collections.abc import Mapping

from muxjax.scheduler import fit
from muxjax.scheduler.view import ModelView, View
from muxjax.types import Quotas

FLOOR_FRAC = 0.5
"""Share of its part of the arena that a model may always hold."""


def floors(weights: Mapping[str, float], total_blocks: int) -> Quotas:
    """Head blocks below which no model's quota is ever moved, in proportion to their weights."""
    return {name: int(FLOOR_FRAC * total_blocks * weight / sum(weights.values())) for name, weight in weights.items()}


def initial(rates: Mapping[str, float], blocks_per_token: Mapping[str, float], total_blocks: int, floors: Quotas) -> Quotas:
    """Floors, and the rest in proportion to rate x blocks per token; sums to total_blocks.

    Args:
      rates: requests a second of each model; only their ratios count.
      floors: sum to at most total_blocks.
    """
    rest_blocks = total_blocks - sum(floors.values())
    if rest_blocks < 0:
        raise ValueError(f"floors of {sum(floors.values())} head blocks in an arena of {total_blocks}")
    shares = split(rest_blocks, {name: rate * blocks_per_token[name] for name, rate in rates.items()})
    return {name: floors[name] + shares[name] for name in rates}


def rebalance(view: View) -> Quotas:
    """Quotas after one transfer: half of what can be spared goes to the saturated models in proportion to their floors.

    A saturated model can spare all above its floor, so that several of them come to quotas in the proportion of their floors; any
    other one can spare what it neither holds nor will soon grow into. The sum stays what it was, and no quota falls below its floor.
    """
    saturated = {model.name: max(model.floor_blocks, 1) for model in view.models if is_saturated(model)}
    gifts = {model.name: _spare_blocks(model, model.name in saturated) // 2 for model in view.models} if saturated else {}
    shares = split(sum(gifts.values()), saturated)
    return {model.name: model.quota_blocks - gifts.get(model.name, 0) + shares.get(model.name, 0) for model in view.models}


def is_saturated(model: ModelView) -> bool:
    """Its quota holds back what it would do next: admit its next request, or grow."""
    request = fit.waiting(model)
    admission_blocks = request.blocks + fit.headroom([model]) if request else 0
    return max(admission_blocks, fit.wanted_by_growth([model])) > model.quota_blocks - model.held_blocks


def split(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Whole shares of total in proportion to the weights, by largest remainder; equal ones if all weights are 0."""
    if not any(weights.values()):
        weights = dict.fromkeys(weights, 1.0)
    exact = {name: total * weight / sum(weights.values()) for name, weight in weights.items()}
    shares = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: shares[name] - exact[name])
    for name in by_remainder[: total - sum(shares.values())]:
        shares[name] += 1
    return shares


def _spare_blocks(model: ModelView, saturated: bool) -> int:
    used_blocks = 0 if saturated else model.held_blocks + fit.headroom([model])
    return max(0, model.quota_blocks - max(model.floor_blocks, used_blocks))
