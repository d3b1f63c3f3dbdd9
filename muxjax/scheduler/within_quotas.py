"""Plans of policies that deal the arena by quotas: who decodes, who grows, and who is pre-empted, whoever they let prefill."""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from muxjax.scheduler import fit, quota
from muxjax.scheduler.view import Chunk, Job, ModelView, Running, StepPlan, View
from muxjax.types import Quotas

PERIOD_S = 1.0
"""Seconds between two transfers of quota."""


class Prefill(NamedTuple):
    """Chunks of a model's next job, and the multiprocessors that it is to keep to; None for all."""

    chunks: tuple[Chunk, ...]
    sm_share: int | None = None


Prefills = Mapping[str, Prefill]
"""Prefills by the names of the models, which are ready."""

_NONE = Prefill(())


def plan(view: View, choose: Callable[[View, Collection[ModelView]], Prefills]) -> StepPlan:
    """A job for every ready model that has one.

    A model that starves has the youngest request of the unit pre-empted, or one of its own if only its quota is short; the victim's
    model does nothing until that is done.

    Args:
      choose: the prefills, of some of those models.
    """
    quotas: Quotas = quota.rebalance(view) if view.quota_age_s >= PERIOD_S else {}
    victim = _victim(view)
    preempt = (victim[1].request_id,) if victim and victim[1].idle else ()
    free = [model for model in view.models if not victim or model.name != victim[0]]
    return StepPlan(jobs=_jobs(view, choose(view, free), free), preempt=preempt, quotas=quotas)


def admission_blocks(model: ModelView) -> int:
    """Head blocks that the model's quota has for new requests, all that one needs if it holds nothing."""
    request = fit.waiting(model)
    if request and not model.running:
        return max(request.blocks, model.quota_blocks - model.held_blocks)
    return model.quota_blocks - model.held_blocks - fit.headroom([model])


def _jobs(view: View, prefills: Prefills, models: Collection[ModelView]) -> tuple[Job, ...]:
    """Jobs of those that are ready, prefills first. Growth goes to the least recently decoded first, whoever prefills."""
    free_blocks = view.free_blocks
    jobs: list[Job] = []
    for model in sorted([model for model in models if model.ready], key=lambda model: model.last_decode):
        chunks, sm_share = prefills.get(model.name, _NONE)
        job = fit.job(model, chunks, min(free_blocks, _growth_blocks(model)), sm_share)
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


def _growth_blocks(model: ModelView) -> int:
    """Its quota has for growth; a column at least if nobody but its oldest runs."""
    return max(model.quota_blocks - model.held_blocks, model.column_blocks if model.running == 1 else 0)
