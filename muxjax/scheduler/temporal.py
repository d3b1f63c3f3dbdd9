"""Temporal multiplexing: one job after the other in the whole unit, whoever's turn it is."""

from collections.abc import Iterable

from muxjax.scheduler import fit
from muxjax.scheduler.view import Job, ModelView, StepPlan, View


def one_job(view: View, turns: Iterable[ModelView], claims: Iterable[ModelView]) -> StepPlan:
    """The job of the first model that has one: what it can prefill and decode.

    Where all models share a lane, one more is launched behind a job in flight, so that the device does not wait for the host: that of the
    model whose turn it is, or none. Elsewhere a second job would run beside the first, and nothing is launched ahead.

    Args:
      turns: the unit's models, the one to serve next first.
      claims: the same models, the one to admit next first.
    """
    in_flight = sum(model.in_flight for model in view.models)
    if in_flight > (1 if _one_lane(view) else 0):
        return StepPlan()
    room_blocks = view.free_blocks - fit.headroom(view.models)
    claimant = fit.first_claim(claims, room_blocks)

    def job_of(model: ModelView) -> Job | None:
        return _job(view, model, room_blocks if claimant in (None, model) else 0)

    if in_flight:
        following = next((model for model in turns if model.running or model.waiting), None)
        job = job_of(following) if following and following.ready else None
        return StepPlan(jobs=(job,) if job else ())
    preempt: tuple[str, ...] = ()
    barred = ""
    for model in turns:
        if model.name == barred:
            continue
        if job := job_of(model):
            return StepPlan(jobs=(job,), preempt=preempt)
        victim = fit.youngest(view) if not preempt and fit.starves(model, view.free_blocks) else None
        if victim:
            barred, preempt = victim[0], (victim[1].request_id,)
    return StepPlan(preempt=preempt)


def _one_lane(view: View) -> bool:
    return len({model.lane for model in view.models}) == 1


def _job(view: View, model: ModelView, room_blocks: int) -> Job | None:
    return fit.job(model, fit.chunks(view, model, room_blocks, fit.budget(view, model)), view.free_blocks)
