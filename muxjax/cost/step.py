"""Cost of any step of the engine: decodes, chunks of prompts, or both in one."""

from dataclasses import replace

from muxjax.cost.chip import MeshSpec
from muxjax.cost.cost_model import CostModel
from muxjax.cost.roofline import Roofline, StepCost, decode, mixed, prefill
from muxjax.model_spec import ModelSpec


def step_cost(
    spec: ModelSpec,
    mesh: MeshSpec,
    measured: CostModel | None,
    *,
    tokens: int = 0,
    context: float = 0.0,
    batch: int = 0,
    context_tokens: int = 0,
) -> StepCost:
    """Cost of a step, by the roofline and what was measured.

    Args:
      measured: seconds of decodes and prefills, in place of the roofline's sums; the shares of their kinds of work stay the roofline's. A
        step of both is as much dearer than the roofline says as a prefill of all its rows, but for the attention of its decodes.
      tokens, context: of chunks, as of `roofline.prefill`; batch, context_tokens: of decodes, as of `roofline.decode`.
    """
    measured = None if isinstance(measured, Roofline) else measured
    if not tokens:
        alone = decode(spec, mesh, batch, context_tokens)
        return alone.times(measured.decode_s(spec, mesh, batch, context_tokens) / alone.total_s) if measured else alone
    both = mixed(spec, mesh, tokens, context, batch, context_tokens)
    if not measured:
        return both
    rows = tokens + batch
    chunks = mixed(spec, mesh, tokens, context, batch, 0)
    dearer = measured.prefill_s(spec, mesh, rows, context * tokens / rows) / prefill(spec, mesh, rows, context * tokens / rows).total_s
    products = chunks.times(dearer)
    return replace(products, attention_s=products.attention_s + both.attention_s - chunks.attention_s)
