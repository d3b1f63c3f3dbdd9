"""Placement problems small enough to see through: units scored by a formula of three lines in place of a cost model."""

from dataclasses import replace

from hypothesis import strategies as st

from muxjax.cost.chip import A100
from muxjax.placement.candidates import Alone, Candidates, decode_speed
from muxjax.placement.objective import NO_UNIT, Objective
from muxjax.placement.problem import Cluster, Demand, Problem, UnitPlan
from muxjax.types import ModelSpec

DEVICE_PARAMS = 1_000_000
"""That one device holds."""
CHIP = replace(A100, memory_bytes=2 * DEVICE_PARAMS)


def spec(kiloparams: int, kv_heads: int = 8) -> ModelSpec:
    """Of about so many thousand parameters."""
    return ModelSpec(
        vocab=500 * kiloparams // 2, width=2, layers=1, heads=kv_heads, kv_heads=kv_heads, head_dim=2, ffn=8, max_len=64, windows=(None,)
    )


def demand(name: str, kiloparams: int, rate_rps: float, kv_heads: int = 8) -> Demand:
    return Demand(name=name, spec=spec(kiloparams, kv_heads), rate_rps=rate_rps, prompt_tokens=10, output_tokens=10)


def score(problem: Problem):
    """Equation 3 with seconds in proportion to parameters a device; the unit's prefills take turns, batches share free memory."""

    def of(unit: UnitPlan) -> float:
        sizes = {member.model: problem.demand(member.model).spec.params for member in unit.members}
        used = [sum(sizes[one.model] / one.tp for one in unit.members if device in one.devices) for device in range(unit.devices)]
        if max(used) > DEVICE_PARAMS:
            return NO_UNIT
        batch = 1 + 8 * (1 - max(used) / DEVICE_PARAMS) / len(unit.members)
        prefill_s = sum(sizes[one.model] / one.tp for one in unit.members) * 1e-7
        return sum(min(one.rate_rps, batch / (prefill_s + sizes[one.model] / one.tp * 1e-6)) for one in unit.members)

    return of


def alone(demand: Demand, rate_rps: float, tp: int, sm_share: float) -> Alone | None:
    """The same formula for one LLM."""
    params = demand.spec.params / tp
    if params > DEVICE_PARAMS:
        return None
    batch = 1 + 8 * (1 - params / DEVICE_PARAMS)
    rps = batch / (params * 1e-7 + params * 1e-6 / decode_speed(sm_share))
    return Alone(min(rate_rps, rps), min(rate_rps, rps))


def solver(problem: Problem) -> tuple[Objective, Candidates]:
    """A fresh objective and candidates of a problem."""
    candidates = Candidates(problem, alone)
    return Objective(problem, score(problem), candidates.sm_share), candidates


@st.composite
def problems(draw, *, most_models: int = 4, nodes: tuple[int, int] = (1, 2), devices: tuple[int, int] = (1, 4)) -> Problem:
    """Of LLMs that together need at most about half of the memory of the cluster."""
    cluster = Cluster(chip=CHIP, nodes=draw(st.integers(*nodes)), devices_per_node=draw(st.integers(*devices)))
    count = draw(st.integers(1, most_models))
    largest = min(450 * cluster.devices // count, 900)
    demands = tuple(
        demand(f"llm{i}", draw(st.integers(20, largest)), draw(st.floats(0.1, 30)), draw(st.sampled_from((1, 2, 6, 8))))
        for i in range(count)
    )
    return Problem(demands=demands, cluster=cluster, memory_frac=1.0)
