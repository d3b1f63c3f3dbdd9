import itertools
from dataclasses import replace

from muxjax.cluster.changes import in_the_way, plan_change, told
from tests.cluster.kit import in_other_bits, unit


def test_nothing_moves_between_equal_plans():
    units = [unit("0", "a", "b"), unit("1", "c", devices=(1,))]
    assert told(plan_change(units, units)) == []


def test_units_on_the_same_devices_stay_and_models_move():
    old = [unit("0", "a", "b"), unit("1", "c", devices=(1,))]
    new = [unit("0", "a"), unit("1", "c", "b", devices=(1,))]
    change = plan_change(old, new)
    assert (change.load, change.remove, change.start, change.stop) == ((("1", "b"),), (("0", "b"),), (), ())
    assert change.coming == {"b"}
    assert told(change) == ["load b on unit 1", "remove b from unit 0"]


def test_units_on_other_devices_are_started_and_stopped():
    old = [unit("0", "a"), unit("1", "b", devices=(1,)), unit("2", "c", devices=(2,))]
    new = [unit("0-1", "a", "b", devices=(0, 1)), unit("3", "c", devices=(3,))]
    change = plan_change(old, new)
    assert [one.name for one in change.start] == ["0-1", "3"] and change.stop == ("0", "1", "2")
    assert in_the_way(change, old) == ("0", "1")


def test_a_unit_that_has_failed_is_started_again_where_it_is_wanted():
    units = [unit("0", "a"), unit("1", "b", devices=(1,))]
    change = plan_change(units, units, failed=["1"])
    assert told(change) == ["start unit 1 again, with b"]
    assert in_the_way(change, units) == ("1",) and change.coming == {"b"}
    assert told(plan_change(units, units[:1], failed=["1"])) == ["stop unit 1"]


def test_a_unit_is_started_again_for_a_model_in_other_bits():
    old = [unit("0", "a", "b"), unit("1", "c", devices=(1,))]
    for other in ({"quantization": "fp8"}, {"kv_cache_dtype": "fp8"}):
        new = [in_other_bits(old[0], "b", **other), old[1]]
        change = plan_change(old, new)
        assert told(change) == ["start unit 0 again, with a, b"] and in_the_way(change, old) == ("0",)
        assert change.stay == (old[1],) and told(plan_change(new, new)) == []


def test_a_unit_is_started_again_for_a_model_on_others_of_its_devices():
    of_two = unit("0-1", "a", "b", devices=(0, 1))
    of_two = replace(of_two, options=replace(of_two.options, tensor_parallel_size=2))
    on = [in_other_bits(of_two, "b", devices=devices) for devices in ((0,), (1,), (0, 1), None)]
    for old, new in itertools.pairwise(on[:3]):
        assert told(plan_change([old], [new])) == ["start unit 0-1 again, with a, b"]
    assert told(plan_change([on[2]], [on[3]])) == [], "all of them, either way"


def test_a_unit_that_such_a_model_only_comes_to_stays():
    old = unit("0", "a")
    change = plan_change([old], [in_other_bits(unit("0", "a", "b"), "b", quantization="fp8")])
    assert told(change) == ["load b on unit 0"]
