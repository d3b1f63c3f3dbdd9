"""A placement beside units that serve: who can stay stays."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from muxjax.cluster.changes import in_the_way, plan_change
from muxjax.cluster.plan import unit_specs
from muxjax.cluster.renumber import Taken, renumbered
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.placement.problem import Placed, Placement, UnitPlan


def plan(*units: tuple[int, str]) -> Placement:
    """Units of so many devices, with models of one letter."""
    return Placement(
        units=tuple(
            UnitPlan(devices=count, members=tuple(Placed(model=model, rate_rps=1.0, devices=tuple(range(count))) for model in models))
            for count, models in units
        )
    )


def firsts(placement: Placement) -> list[int | None]:
    return [unit.first_device for unit in placement.units]


def taken(first: int, count: int, models: str) -> Taken:
    return Taken(tuple(range(first, first + count)), tuple(models))


def test_a_unit_stays_where_most_of_its_models_are():
    there = [taken(0, 1, "a"), taken(1, 1, "bc"), taken(2, 2, "d")]
    assert firsts(renumbered(plan((1, "bcx"), (1, "a"), (2, "e")), there, [])) == [1, 0, 2]


def test_the_number_of_a_unit_that_is_away_is_nobodys():
    assert firsts(renumbered(plan((1, "ab")), [taken(1, 1, "b")], [taken(0, 1, "a")])) == [1]
    assert firsts(renumbered(plan((1, "a"), (1, "b")), [taken(1, 1, "b")], [taken(0, 1, "a")])) == [2, 1]
    assert firsts(renumbered(plan((1, "a")), [], [taken(0, 3, "a")])) == [3]


def test_who_does_not_stay_is_in_the_way_of_who_comes():
    assert firsts(renumbered(plan((1, "a"), (1, "b")), [taken(4, 2, "ab")], [])) == [4, 5]
    assert firsts(renumbered(plan((2, "ab")), [taken(4, 1, "a"), taken(5, 1, "b")], [])) == [4]
    assert firsts(renumbered(plan((2, "ab")), [taken(4, 1, "a"), taken(6, 1, "b")], [])) == [7]  # no two that follow each other


def test_a_unit_does_not_get_the_numbers_of_devices_of_another_chip():
    wanted = replace(plan((1, "a"), (1, "b")), chips=("H200",))
    there = [Taken((0,), ("a",), "H100"), Taken((1,), ("b",), "H200")]
    assert firsts(renumbered(wanted, there, [])) == [2, 1]
    assert firsts(renumbered(replace(wanted, chips=()), there, [])) == [0, 1]


def test_units_without_models_are_left_out():
    assert firsts(renumbered(plan((1, ""), (1, "a")), [], [])) == [0]


sizes = st.lists(st.integers(1, 3), min_size=1, max_size=5)


@given(wanted=sizes, serving=sizes, away=sizes)
def test_every_plan_can_be_served_and_shares_no_device(wanted, serving, away):
    models = UnitOptions(models=tuple(ModelOptions(name=name, path="/none") for name in "abcde"))
    ends = [sum([*serving, *away][:i]) for i in range(len(serving) + len(away))]
    there = [taken(first, count, "abcde"[i]) for i, (first, count) in enumerate(zip(ends, serving, strict=False))]
    gone = [taken(first, count, "e") for first, count in zip(ends[len(serving) :], away, strict=True)]
    new = renumbered(plan(*((count, "abcde"[i]) for i, count in enumerate(wanted))), there, gone)

    specs = unit_specs(new, models)  # which refuses units that share a device

    devices = {device for spec in specs for device in spec.devices}
    assert not devices & {device for unit in gone for device in unit.devices}
    numbers = [one.devices[0] for one in there]
    old = plan(*((count, "abcde"[i]) for i, count in enumerate(serving)))
    laid_out = zip(old.units, numbers, strict=True)
    before = unit_specs(Placement(units=tuple(replace(unit, first_device=first) for unit, first in laid_out)), models)
    change = plan_change(before, specs)
    starting = {device for unit in change.start for device in unit.devices}
    stopping = {device for unit in before if unit.name in in_the_way(change, before) for device in unit.devices}
    assert {unit.name for unit in specs} - {unit.name for unit in change.start} <= {unit.name for unit in before}
    assert starting & {device for unit in before for device in unit.devices} <= stopping
