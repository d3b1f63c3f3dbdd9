"""Multiplexing in time and space: every lane prefills at its own pace, as much a step as those that decode have time for.

Where other lanes decode, it does so on as few multiprocessors as its first tokens have time for.
"""

from collections import Counter
from collections.abc import Collection

from muxjax.scheduler import fit
from muxjax.scheduler.pace import slowness
from muxjax.scheduler.view import SHARED_TOKENS, TOKEN_GRAIN, Chunk, ModelView, StepPlan, View, grains
from muxjax.scheduler.within_quotas import Prefill, Prefills, admission_blocks, plan

PATIENCE_S = 0.1
"""A step takes no longer where others wait for their next tokens and no target says how long they may."""
SLACK = 0.9
"""Share of the target for the mean time between tokens that a step may take: some take longer than those before them did, and steps
without prompts are shorter."""
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
    prefills: dict[str, Prefill] = {}
    for model in fit.by_turn(claimants, lambda model: model.last_prefill):
        within_quota = admission_blocks(model)
        prefill, request = _prefill(view, model, min(free_blocks, within_quota)), fit.waiting(model)
        if prefill.chunks and model.lane not in closed:
            free_blocks -= fit.blocks_taken(model, prefill.chunks)
            closed.update([model.lane] if claims[model.lane] > 1 else [])
            prefills |= {model.name: prefill} if model.ready else {}
        elif request and free_blocks < request.blocks <= within_quota:
            free_blocks = 0
    return prefills


def _prefill(view: View, model: ModelView, room_blocks: int) -> Prefill:
    """The model's next chunks: on a share of the multiprocessors where answers on other lanes want the rest, and are then not held up by
    them; else on all, and no longer than anybody who decodes has time for."""
    neighbours = [other for other in view.models if other.lane != model.lane]
    if model.sm_shares and any(other.running for other in neighbours):
        own = [other for other in view.models if other.lane == model.lane]
        chunks = fit.chunks(view, model, room_blocks, _budget(view, model, own, slowness(model.sm_shares, model.sm_shares[0])))
        if sum(chunk.tokens for chunk in chunks) >= SHARED_TOKENS:
            share = _sm_share(view, model, chunks)
            if share < model.sm_shares[-1]:
                return Prefill(chunks, share)
    return Prefill(fit.chunks(view, model, room_blocks, _budget(view, model, view.models)))


def _budget(view: View, model: ModelView, beside: Collection[ModelView], times: float = 1.0) -> int:
    """Prompt tokens of the model's next step: few enough that those beside it who decode have the next token in time, and a size that needs
    no padding if they do not all fit; `times` as long as ever."""
    patience_s = [PATIENCE_S if other.tpot_s is None else SLACK * other.tpot_s for other in beside if other.decoding + other.growing]
    budget = fit.budget(view, model)
    tokens = model.pace.tokens_within(min(patience_s)) / times if patience_s else budget
    if tokens >= budget:
        return budget
    decodes = grains(model.decoding + model.growing)
    sizes = [size - decodes for size in model.step_sizes] or range(TOKEN_GRAIN, budget, TOKEN_GRAIN)
    return min(budget, max([LEAST_TOKENS, *(size for size in sizes if size <= tokens)]))


def _sm_share(view: View, model: ModelView, chunks: tuple[Chunk, ...]) -> int:
    """The fewest multiprocessors with which as many first tokens of the chunks come in time as with all."""
    in_time = {share: _in_time(view, model, chunks, slowness(model.sm_shares, share)) for share in model.sm_shares}
    return min(share for share, count in in_time.items() if count == in_time[model.sm_shares[-1]])


def _in_time(view: View, model: ModelView, chunks: tuple[Chunk, ...], times: float) -> int:
    """How many requests of the chunks meet the target of a first token, if prompts take `times` as long as ever."""
    if model.ttft_s is None:
        return len(chunks)
    tokens, requests = sum(chunk.tokens for chunk in chunks), model.pending[: len(chunks)]
    late_s = [
        view.now_s + model.pace.first_s(max(tokens, request.tokens) * times) - request.arrival_s - model.ttft_s for request in requests
    ]
    return sum(late <= 0 for late in late_s)
