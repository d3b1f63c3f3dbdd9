"""Moves of the placer: what each leads to, and that none leads to what may not be."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.cost.chip import A100, H100
from muxjax.cost.roofline import Roofline
from muxjax.errors import ConfigError
from muxjax.placement.check import violations
from muxjax.placement.cluster import Mesh
from muxjax.placement.greedy import Effort, place
from muxjax.placement.moves import Moves
from muxjax.placement.objective import NO_UNIT, Member, UnitContents
from muxjax.placement.problem import Cluster, Demand, Problem
from muxjax.placement.references.ilp import optimum
from muxjax.placement.search_space import search_space
from muxjax.placement.state import State
from muxjax.specs.published import BY_NAME
from tests.placement.toy import CHIP, demand, problems, solver

TWO_ON_FOUR = Problem(
    demands=(
        Demand(name="eight", spec=BY_NAME["llama-3.1-8b"], rate_rps=35.2, prompt_tokens=2000, output_tokens=200),
        Demand(name="thirty", spec=BY_NAME["llama-30b"], rate_rps=8.9, prompt_tokens=2000, output_tokens=200),
    ),
    cluster=Cluster.uniform(chip=H100, nodes=1, devices_per_node=4),
    objective="throughput",
)
"""Three replicas of one LLM and one of the other; with at most two, 11 % less is served."""
THREE_ON_FOUR = Problem(
    demands=tuple(
        Demand(name=shape, spec=BY_NAME[shape], rate_rps=rate, prompt_tokens=200, output_tokens=300)
        for shape, rate in (("llama-30b", 9.7), ("llama-7b", 19.5), ("llama-3.1-8b", 19.2))
    ),
    cluster=Cluster.uniform(chip=A100, nodes=2, devices_per_node=2),
    objective="throughput",
)
"""The large LLM on one device, and the others together on each of the rest: no insertion leads there while it has two."""


def moves(problem: Problem, most_parts: int | None = None) -> Moves:
    objective, candidates = solver(problem)
    return Moves(cluster=problem.cluster, objective=objective, candidates=candidates, most_parts=most_parts)


def share_of_optimum(problem: Problem, effort: Effort) -> float:
    """Of requests a second, those with up to four replicas."""
    objective, candidates = search_space(problem, Roofline())
    best = optimum(problem, objective, candidates, most_parts=4)
    assert best is not None
    return place(problem, objective, candidates, effort).worth / objective.total(best)


@pytest.mark.parametrize("effort", [Effort(parts=4), Effort(parts=4, groups=0)])
@pytest.mark.parametrize("problem", [TWO_ON_FOUR, THREE_ON_FOUR])
def test_replicas_go_to_whom_they_serve_most(problem, effort):
    assert share_of_optimum(problem, effort) == pytest.approx(1)


def test_without_transfers_a_replica_stays_where_it_serves_less(monkeypatch):
    monkeypatch.setattr(Moves, "transferred", lambda self, model, state: iter(()))

    assert share_of_optimum(THREE_ON_FOUR, Effort(parts=4)) < 0.97


def test_a_transfer_hands_one_replicas_place_over_and_both_rates_are_shared_anew():
    problem = Problem(
        demands=(demand("a", 300, 9.0, kv_heads=1), demand("b", 300, 90.0, kv_heads=1)),
        cluster=Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=4),
    )
    state = State.of([UnitContents(Mesh(1), (Member("a", 3, 1),))] * 3 + [UnitContents(Mesh(1), (Member("b", 1, 1),))])
    after = State.of([UnitContents(Mesh(1), (Member("a", 2, 1),))] * 2 + [UnitContents(Mesh(1), (Member("b", 2, 1),))] * 2)

    assert list(moves(problem).transferred("b", state)) == [after]
    assert list(moves(problem, most_parts=1).transferred("b", state)) == []
    assert list(moves(problem).transferred("a", after)) == []  # a is served whole


def test_a_last_replica_is_never_handed_over():
    problem = Problem(
        demands=(demand("a", 300, 9.0), demand("b", 300, 90.0)), cluster=Cluster.uniform(chip=CHIP, nodes=1, devices_per_node=2)
    )
    state = State.of([UnitContents(Mesh(1), (Member(name, 1, 1),)) for name in "ab"])

    assert list(moves(problem).transferred("b", state)) == []


@settings(deadline=None, max_examples=60)
@given(problems(), st.sampled_from(("quick", "slow", "recutting")))
def test_no_move_leads_to_a_placement_that_breaks_a_limit(problem, kind):
    """But to units that cannot be, which serve less than nothing."""
    objective, candidates = solver(problem)
    try:
        state = place(problem, objective, candidates, Effort(groups=0, breadth=0)).state
    except ConfigError:
        return
    for move in getattr(Moves(cluster=problem.cluster, objective=objective, candidates=candidates, most_parts=None), kind)():
        for other in move(state):
            if other.total(objective) > NO_UNIT:
                assert violations(problem, objective.placement(other)) == []
