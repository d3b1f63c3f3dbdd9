"""Multiplexing in time and space: every lane prefills at its own pace, as much a step as those that decode have time for."""

from collections import Counter
from collections.abc import Collection

from muxjax.scheduler import fit
from muxjax.scheduler.view import TOKEN_GRAIN, Chunk, ModelView, StepPlan, View
from muxjax.scheduler.within_quotas import Prefills, admission_blocks, plan

PATIENCE_S = 0.1
"""A step takes no longer where others wait for their next tokens and no target says how long they may."""
SLACK = 0.8
"""Share of the target for the time between tokens that a step may take: some take longer than those before them did."""
LEAST_TOKENS = 8 * TOKEN_GRAIN
"""Prompt tokens that a step may always have, so that no prompt waits for ever beside answers that are late already."""


def mux(view: View) -> StepPlan:
    """Prefills on every lane, and the decodes of every ready model: its own in the same job. Blocks go as under `adbs`."""
    return plan(view, _prefills)


def _prefills(view: View, models: Collection[ModelView]) -> Prefills:
    """The chunks of all models that may prefill now.

    Models that share a lane prefill one at a time, in turn: a job of one is in the way of the others'. One that has waited longest
    has its blocks first, ready or not, and while it lacks some no other model admits.
    """
    claimants = [model for model in models if model.pending]
    free_blocks = view.free_blocks - fit.wanted_by_growth(view.models) if claimants else 0
    claims = Counter(model.lane for model in claimants)
    closed = {model.lane for model in view.models if model.prefills_in_flight and claims[model.lane] > 1}
    prefills: dict[str, tuple[Chunk, ...]] = {}
    for model in fit.by_turn(claimants, lambda model: model.last_prefill):
        within_quota = admission_blocks(model)
        chunks = fit.chunks(view, model, min(free_blocks, within_quota), _budget(view, model))
        request = fit.waiting(model)
        if chunks and model.lane not in closed:
            free_blocks -= fit.blocks_taken(model, chunks)
            closed.update([model.lane] if claims[model.lane] > 1 else [])
            prefills |= {model.name: chunks} if model.ready else {}
        elif request and free_blocks < request.blocks <= within_quota:
            free_blocks = 0
    return prefills


def _budget(view: View, model: ModelView) -> int:
    """Prompt tokens of the model's next step: few enough that whoever decodes has the next token in time, and a size that needs no padding
    if they do not all fit."""
    patience_s = [PATIENCE_S if other.tpot_s is None else SLACK * other.tpot_s for other in view.models if other.decoding + other.growing]
    budget = fit.budget(view, model)
    tokens = model.pace.tokens_within(min(patience_s)) if patience_s else budget
    if tokens >= budget:
        return budget
    sizes = model.prompt_sizes or range(TOKEN_GRAIN, budget, TOKEN_GRAIN)
    return min(budget, max([LEAST_TOKENS, *(size for size in sizes if size <= tokens)]))
