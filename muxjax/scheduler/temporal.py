"""Temporal multiplexing: one job at a time in the whole unit, whoever's turn it is."""

from collections.abc import Iterable

from muxjax.scheduler import fit
from muxjax.scheduler.view import Job, ModelView, StepPlan, View


def one_job(view: View, turns: Iterable[ModelView], claims: Iterable[ModelView]) -> StepPlan:
    """The job of the first model that has one: what it can prefill and decode. Nothing while any job is in flight.

    Were a second job launched behind the first, it would run beside it wherever the executor has lanes. The price is that
    nothing is launched ahead.

    Args:
      turns: the unit's models, the one to serve next first.
      claims: the same models, the one to admit next first.
    """
    if any(model.in_flight for model in view.models):
        return StepPlan()
    room_blocks = view.free_blocks - fit.headroom(view.models)
    claimant = fit.first_claim(claims, room_blocks)
    preempt: tuple[str, ...] = ()
    barred = ""
    for model in turns:
        if model.name == barred:
            continue
        job = _job(view, model, room_blocks if claimant in (None, model) else 0)
        if job:
            return StepPlan(jobs=(job,), preempt=preempt)
        victim = fit.youngest(view) if not preempt and fit.starves(model, view.free_blocks) else None
        if victim:
            barred, preempt = victim[0], (victim[1].request_id,)
    return StepPlan(preempt=preempt)


def _job(view: View, model: ModelView, room_blocks: int) -> Job | None:
    return fit.job(model, fit.chunks(view, model, room_blocks, fit.budget(view, model)), view.free_blocks)
