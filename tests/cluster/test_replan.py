import pytest

from muxjax.cluster.replan import Hysteresis, gain, rescaled
from muxjax.commands.place import better
from muxjax.commands.problem_file import read_problem
from muxjax.placement.problem import Load, Placed, Placement, UnitPlan, with_loads
from tests.two_models import placed, write_problem


def one_device(*members: Placed) -> UnitPlan:
    return UnitPlan(devices=1, members=members)


def test_replicas_keep_their_parts_of_another_rate(tmp_path):
    problem = with_loads(read_problem(write_problem(tmp_path)), {"a": Load(rate_rps=8.0)})
    old = Placement(units=(one_device(placed("a", 0, rate_rps=3.0)), one_device(placed("a", 0, rate_rps=1.0), placed("b", 0))))
    first, second = rescaled(old, problem).units
    assert [one.rate_rps for one in (*first.members, *second.members)] == [6.0, 2.0, 1.0]


def test_the_gain_is_of_what_is_served():
    def serves(unit: UnitPlan) -> float:
        return float("-inf") if unit.devices > 4 else 2.0 * unit.devices

    two, four, impossible = (Placement(units=(UnitPlan(devices=count, members=(placed("a", 0),)),)) for count in (2, 4, 8))
    assert gain(two, four, serves) == pytest.approx(1.0)
    assert gain(four, two, serves) == pytest.approx(-0.5)
    assert gain(impossible, two, serves) == float("inf")


@pytest.mark.parametrize(
    ("gains", "moves"),
    [((0.2, 0.2), True), ((0.2, 0.05, 0.2), False), ((0.09, 0.09, 0.09), False), ((0.0, 0.2, 0.3), True)],
)
def test_a_move_waits_for_looks_in_a_row(gains, moves):
    state = Hysteresis()
    for found in gains:
        state = state.after(found)
    assert state.is_due == moves


def test_where_all_load_has_turned_to_one_model_it_gets_more_devices(tmp_path):
    """Both on one of two devices serve less than one of each, once more comes than one device bears."""
    problem = with_loads(read_problem(write_problem(tmp_path)), {"b": Load(rate_rps=80.0, prompt_tokens=2000.0, output_tokens=200.0)})
    now = Placement(units=(one_device(placed("a", 0), placed("b", 0)),))
    found = better(problem, now)
    assert found.gain > 0.5
    assert sum("b" in {member.model for member in unit.members} for unit in found.placement.units) == 2 or any(
        unit.devices == 2 for unit in found.placement.units
    )
