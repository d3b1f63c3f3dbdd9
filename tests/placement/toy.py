"""Placement problems small enough to see through: units scored by a formula of three lines in place of a cost model."""

from dataclasses import replace

from hypothesis import strategies as st

from muxjax.cost.chip import A100
from muxjax.model_spec import ModelSpec
from muxjax.placement.candidates import Alone, Candidates, EstimateAlone, decode_speed
from muxjax.placement.cluster import Mesh
from muxjax.placement.objective import NO_UNIT, Objective
from muxjax.placement.problem import Cluster, Demand, Pool, Problem, UnitPlan

DEVICE_PARAMS = 1_000_000
"""That one device holds."""
CHIP = replace(A100, memory_bytes=2 * DEVICE_PARAMS)
SMALL = replace(CHIP, name="small", memory_bytes=DEVICE_PARAMS, flops_per_s=CHIP.flops_per_s / 2)
"""Holds half as much, and takes twice as long."""


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
        holds, slowness = _chip(problem, unit.pool)
        used = [sum(sizes[one.model] / one.tp for one in unit.members if device in one.devices) for device in range(unit.devices)]
        if max(used) > holds:
            return NO_UNIT
        batch = 1 + 8 * (1 - max(used) / holds) / len(unit.members)
        prefill_s = sum(sizes[one.model] / one.tp for one in unit.members) * slowness * 1e-7
        return sum(min(one.rate_rps, batch / (prefill_s + sizes[one.model] / one.tp * slowness * 1e-6)) for one in unit.members)

    return of


def alone(problem: Problem) -> EstimateAlone:
    """The same formula for one LLM."""

    def of(demand: Demand, rate_rps: float, mesh: Mesh, sm_share: float) -> Alone | None:
        params = demand.spec.params / mesh.devices
        holds, slowness = _chip(problem, mesh.pool)
        if params > holds:
            return None
        batch = 1 + 8 * (1 - params / holds)
        rps = batch / ((params * 1e-7 + params * 1e-6 / decode_speed(sm_share)) * slowness)
        return Alone(min(rate_rps, rps), min(rate_rps, rps))

    return of


def _chip(problem: Problem, pool: int) -> tuple[float, float]:
    """Parameters that a device of the pool holds, and its seconds over those of CHIP."""
    chip = problem.cluster.pools[pool].chip
    return chip.memory_bytes / 2, CHIP.flops_per_s / chip.flops_per_s


def solver(problem: Problem) -> tuple[Objective, Candidates]:
    """A fresh objective and candidates of a problem."""
    candidates = Candidates(problem, alone(problem))
    return Objective(problem, score(problem), candidates.sm_share), candidates


@st.composite
def problems(
    draw,
    *,
    most_models: int = 4,
    nodes: tuple[int, int] = (1, 2),
    devices: tuple[int, int] = (1, 4),
    small: tuple[int, int] | None = None,
) -> Problem:
    """Of LLMs that together need at most about half of the memory of the cluster, or of its pool of `CHIP`s beside so many `SMALL` ones."""
    pools = [Pool(chip=CHIP, nodes=draw(st.integers(*nodes)), devices_per_node=draw(st.integers(*devices)))]
    if small is not None and (count := draw(st.integers(*small))):
        pools.append(Pool(chip=SMALL, nodes=1, devices_per_node=count))
    cluster = Cluster(tuple(pools))
    count = draw(st.integers(1, most_models))
    largest = min(450 * pools[0].devices // count, 900)
    demands = tuple(
        demand(f"llm{i}", draw(st.integers(20, largest)), draw(st.floats(0.1, 30)), draw(st.sampled_from((1, 2, 6, 8))))
        for i in range(count)
    )
    return Problem(demands=demands, cluster=cluster, memory_frac=1.0)
