"""First come, first served: the unit works for the model whose request has waited longest."""

from muxjax.scheduler import fit
from muxjax.scheduler.temporal import one_job
from muxjax.scheduler.view import ModelView, StepPlan, View


def fcfs(view: View) -> StepPlan:
    """One job of the model with the oldest unfinished request; of the next oldest if it has none. No quotas."""
    return one_job(view, sorted(view.models, key=_oldest), sorted(view.models, key=_oldest_waiting))


def _oldest(model: ModelView) -> float:
    return model.oldest_s


def _oldest_waiting(model: ModelView) -> float:
    return fit.arrival_s(fit.waiting(model))
