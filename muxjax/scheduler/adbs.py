"""Adaptive batch scheduling: one prefill at a time with everybody's decodes, within quotas that follow use.

Source: algorithm 3 of MuxServe (arXiv 2404.02015), with quotas in head blocks and floors below them.
"""

from collections.abc import Collection

from muxjax.scheduler import fit
from muxjax.scheduler.view import ModelView, StepPlan, View
from muxjax.scheduler.within_quotas import Prefill, Prefills, admission_blocks, plan


def adbs(view: View) -> StepPlan:
    """The next model's prefill if none is executing, and the decodes of every ready model: its own in the same job."""
    return plan(view, _prefill)


def _prefill(view: View, models: Collection[ModelView]) -> Prefills:
    """The chunks of the model whose turn it is to prefill, of those that have any; none if nobody may prefill now.

    A waiting prefill has precedence: while its model is not ready no other one starts, and while it lacks free blocks no other model
    admits. Chunks of admitted requests go on, since they hold blocks that only their end gives back.
    """
    if view.prefill_in_flight:
        return {}
    claimants = [model for model in models if model.pending]
    free_blocks = view.free_blocks - fit.wanted_by_growth(view.models) if claimants else 0
    for model in fit.by_turn(claimants, lambda model: model.last_prefill):
        within_quota = admission_blocks(model)
        chunks = fit.chunks(view, model, min(free_blocks, within_quota), fit.budget(view, model))
        if chunks:
            return {model.name: Prefill(chunks)} if model.ready else {}
        request = fit.waiting(model)
        if request and free_blocks < request.blocks <= within_quota:
            free_blocks = 0
    return {}
