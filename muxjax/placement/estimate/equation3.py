"""Equation 3 of MuxServe as it stands there: what a unit serves, in closed form.

    tpt(m) = min(batch(m) / (sum of t_prefill(i) over the LLMs i of the unit + t_decode(m) x output tokens(m)), rate(m))

Prefills of LLMs that share devices run one after another, decodes all at once. Placers use `estimator`, which is nearer to what the
simulator serves; docs/results/estimator compares the two.

Source: MuxServe (arXiv 2404.02015), equation 3 and section 3.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf

from muxjax.cost.chip import MeshSpec
from muxjax.cost.cost_model import CostModel
from muxjax.cost.roofline import weight_bytes
from muxjax.placement.estimate.curves import sequence_blocks
from muxjax.placement.estimate.device_memory import Held, Share, shares
from muxjax.placement.estimate.estimator import NEARLY, ModelEstimate
from muxjax.placement.problem import Demand, Placed, Problem, UnitPlan

GROWTH = 8
"""A batch that is too small for its rate grows by an eighth, and by a sequence at least."""


@dataclass(frozen=True, slots=True)
class _Llm:
    """An LLM of the unit, and what its steps cost."""

    demand: Demand
    rate_rps: float
    mesh: MeshSpec
    held: Held
    costs: CostModel

    def prefill_s(self, batch: int) -> float:
        prompts, context = ceil(batch * self.demand.prompt_tokens), (self.demand.prompt_tokens + 1) / 2
        return self.costs.prefill_s(self.demand.spec, self.mesh, prompts, context)

    def decode_s(self, batch: int) -> float:
        context = self.demand.prompt_tokens + self.demand.output_tokens / 2
        return self.costs.decode_s(self.demand.spec, self.mesh, batch, ceil(batch * context))


def estimate(problem: Problem, costs: CostModel, unit: UnitPlan) -> dict[str, ModelEstimate]:
    """Estimate of each LLM of the unit, by name.

    Raises:
      ConfigError: weights or one sequence do not fit, or a degree does not divide kv heads.
    """
    llms = [_llm(problem, costs, placed, unit.pool) for placed in unit.members]
    memory = shares(unit, [llm.held for llm in llms], problem.device_bytes(unit.pool))
    beside = [{j for share in memory if i in share.members for j in share.members} for i in range(len(llms))]
    batches = _batches(llms, beside, memory, problem.max_batch)
    return {llm.demand.name: _model(llm, batches[i], _prefills_s(llms, beside[i], batches)) for i, llm in enumerate(llms)}


def _batches(llms: Sequence[_Llm], beside: Sequence[set[int]], memory: Sequence[Share], most: int) -> list[int]:
    """The least that meet the rates; who is short of its rate grows, in turns with the others, as long as the head blocks hold it."""
    batches, growing = [1] * len(llms), True
    while growing:
        growing = False
        for i, llm in enumerate(llms):
            grown = [*batches]
            grown[i] = min(most, batches[i] + max(1, batches[i] // GROWTH))
            short = _served_rps(llm, batches[i], _prefills_s(llms, beside[i], batches)) < llm.rate_rps
            if short and grown != batches and _fit(llms, grown, memory):
                batches, growing = grown, True
    return batches


def _fit(llms: Sequence[_Llm], batches: Sequence[int], memory: Sequence[Share]) -> bool:
    return all(sum(batches[i] * llms[i].held.sequence_blocks for i in share.members) <= share.blocks for share in memory)


def _prefills_s(llms: Sequence[_Llm], beside: set[int], batches: Sequence[int]) -> float:
    return sum(llms[i].prefill_s(batches[i]) for i in beside)


def _served_rps(llm: _Llm, batch: int, prefills_s: float) -> float:
    return batch / (prefills_s + llm.decode_s(batch) * llm.demand.output_tokens)


def _model(llm: _Llm, batch: int, prefills_s: float) -> ModelEstimate:
    throughput_rps, tpot_s = min(llm.rate_rps, _served_rps(llm, batch, prefills_s)), llm.decode_s(batch)
    return ModelEstimate(
        throughput_rps=throughput_rps,
        batch=batch,
        blocks=batch * llm.held.sequence_blocks * llm.mesh.tp,
        ttft_s=prefills_s if throughput_rps >= NEARLY * llm.rate_rps else inf,
        tpot_s=tpot_s,
        sm_share=1.0,
    )


def _llm(problem: Problem, costs: CostModel, placed: Placed, pool: int) -> _Llm:
    demand = problem.demand(placed.model)
    mesh = problem.mesh(demand, placed.tp, pool)
    held = Held(weight_bytes=weight_bytes(demand.spec, mesh), sequence_blocks=sequence_blocks(demand, placed.tp))
    return _Llm(demand, placed.rate_rps, mesh, held, costs)
