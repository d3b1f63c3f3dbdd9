"""Round robin: models take turns, a job each."""

from muxjax.scheduler.temporal import one_job
from muxjax.scheduler.view import ModelView, StepPlan, View


def round_robin(view: View) -> StepPlan:
    """One job of the least recently served model, its prefill first. No quotas."""
    return one_job(view, sorted(view.models, key=_served), sorted(view.models, key=_prefilled))


def _served(model: ModelView) -> int:
    return max(model.last_prefill, model.last_decode)


def _prefilled(model: ModelView) -> int:
    return model.last_prefill
