"""Round robin: models take turns, a job each."""

from muxjax.scheduler import fit
from muxjax.scheduler.temporal import one_job
from muxjax.scheduler.view import ModelView, StepPlan, View


def round_robin(view: View) -> StepPlan:
    """One job of the model that was served longest ago for its weight, its prefill first. No quotas."""
    return one_job(view, fit.by_turn(view.models, _served), fit.by_turn(view.models, _prefilled))


def _served(model: ModelView) -> int:
    return max(model.last_prefill, model.last_decode)


def _prefilled(model: ModelView) -> int:
    return model.last_prefill
