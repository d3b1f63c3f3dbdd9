"""Adaptive batch scheduling: one prefill at a time with everybody's decodes, within quotas that follow use.

Source: algorithm 3 of MuxServe (arXiv 2404.02015), with quotas in head blocks and floors below them.
"""

from collections.abc import Collection, Mapping

from muxjax.scheduler import fit, quota
from muxjax.scheduler.view import Chunk, Job, ModelView, Running, StepPlan, View
from muxjax.types import Quotas

PERIOD_S = 1.0
"""Seconds between two transfers of quota."""


def adbs(view: View) -> StepPlan:
    """The next model's prefill if none is executing, and the decodes of every ready model: its own in the same job.

    A model has one job a plan. A model that starves has the youngest request of the unit pre-empted, or one of its own if only its
    quota is short; the victim's model does nothing until that is done.
    """
    quotas: Quotas = quota.rebalance(view) if view.quota_age_s >= PERIOD_S else {}
    victim = _victim(view)
    preempt = (victim[1].request_id,) if victim and victim[1].idle else ()
    held_back = frozenset([victim[0]] if victim else [])
    return StepPlan(jobs=_jobs(view, _prefill(view, held_back), held_back), preempt=preempt, quotas=quotas)


def _prefill(view: View, held_back: Collection[str]) -> dict[str, tuple[Chunk, ...]]:
    """The chunks, by its name, of the model whose turn it is to prefill, of those that have any; empty if nobody may prefill now.

    A waiting prefill has precedence: while its model is not ready no other one starts, and while it lacks free blocks no other model
    admits. Chunks of admitted requests go on, since they hold blocks that only their end gives back.
    """
    if view.prefill_in_flight:
        return {}
    claimants = [model for model in view.models if model.pending and model.name not in held_back]
    free_blocks = view.free_blocks - fit.wanted_by_growth(view.models) if claimants else 0
    for model in fit.by_turn(claimants, lambda model: model.last_prefill):
        within_quota = _admission_blocks(model)
        chunks = fit.chunks(view, model, min(free_blocks, within_quota))
        if chunks:
            return {model.name: chunks} if model.ready else {}
        request = fit.waiting(model)
        if request and free_blocks < request.blocks <= within_quota:
            free_blocks = 0
    return {}


def _jobs(view: View, prefill: Mapping[str, tuple[Chunk, ...]], held_back: Collection[str]) -> tuple[Job, ...]:
    """Jobs of every ready model, the one that prefills first. Growth goes to the least recently decoded first, whoever prefills."""
    free_blocks = view.free_blocks
    jobs: list[Job] = []
    ready = [model for model in view.models if model.ready and model.name not in held_back]
    for model in sorted(ready, key=lambda model: model.last_decode):
        job = fit.job(model, prefill.get(model.name, ()), min(free_blocks, _growth_blocks(model)))
        if job:
            free_blocks -= job.grow * model.column_blocks
            jobs.append(job)
    return tuple(sorted(jobs, key=lambda job: not job.chunks))


def _victim(view: View) -> tuple[str, Running] | None:
    """The model and the request to pre-empt for the first starving model, None if none starves."""
    stuck = [model for model in view.models if fit.stuck(model)]
    for model in sorted(stuck, key=lambda model: model.last_decode):
        if fit.starves(model, view.free_blocks):
            return fit.youngest(view)
        if model.youngest and fit.starves(model, _growth_blocks(model)):
            return model.name, model.youngest
    return None


def _admission_blocks(model: ModelView) -> int:
    """Its quota has for new requests, all that one needs if it holds nothing."""
    request = fit.waiting(model)
    if request and not model.running:
        return max(request.blocks, model.quota_blocks - model.held_blocks)
    return model.quota_blocks - model.held_blocks - fit.headroom([model])


def _growth_blocks(model: ModelView) -> int:
    """Its quota has for growth; a column at least if nobody but its oldest runs."""
    return max(model.quota_blocks - model.held_blocks, model.column_blocks if model.running == 1 else 0)
