import json
from dataclasses import replace
from pathlib import Path

import pytest

from muxjax.cluster.plan import as_served, is_other_chip, unit_specs
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError
from muxjax.model_spec import ModelSpec
from muxjax.placement.problem import Placed, Placement, UnitPlan
from muxjax.specs.config import to_hf_config
from muxjax.specs.published import BY_NAME

OPTIONS = UnitOptions(models=tuple(ModelOptions(name=name, path=Path(f"/{name}")) for name in "abc"), sm_shares=(64,))


def plan(devices: int, *members: tuple[str, tuple[int, ...]], first: int | None = None) -> UnitPlan:
    placed = tuple(Placed(model=model, rate_rps=len(on) + 1.0, devices=on) for model, on in members)
    return UnitPlan(devices=devices, members=placed, first_device=first)


def specs(*units: UnitPlan, devices: int | None = 8):
    return unit_specs(Placement(units=units), OPTIONS, devices=devices)


def test_units_take_their_devices_one_after_the_other():
    two, one = specs(plan(2, ("a", (0, 1))), plan(1, ("b", (0,)), ("c", (0,))))
    assert (two.name, two.devices, two.models) == ("0-1", (0, 1), ("a",))
    assert (one.name, one.devices, one.models) == ("2", (2,), ("b", "c"))


def test_numbers_of_the_placement_count():
    (one,) = specs(plan(2, ("a", (0, 1)), first=4))
    assert (one.name, one.devices) == ("4-5", (4, 5))


def test_rates_meshes_and_submeshes_reach_the_unit():
    (unit,) = specs(plan(2, ("a", (0, 1)), ("b", (1,))))
    a, b = unit.options.models
    assert unit.options.tensor_parallel_size == 2
    assert (a.rate, a.devices, b.rate, b.devices) == (3.0, None, 2.0, (1,))
    assert unit.options.sm_shares == ()  # of lanes on one device alone
    assert specs(plan(1, ("a", (0,)), ("b", (0,))))[0].options.sm_shares == (64,)


def test_models_that_there_are_count_in_place_of_those_at_the_start():
    placement = Placement(units=(plan(1, ("late", (0,))),))
    late = ModelOptions(name="late", path=Path("/late"))
    assert unit_specs(placement, OPTIONS, models=[late])[0].models == ("late",)
    with pytest.raises(ConfigError, match="not configured: a"):
        unit_specs(Placement(units=(plan(1, ("a", (0,))),)), OPTIONS, models=[late])


def test_a_placement_as_it_is_served_has_what_came_and_not_what_went():
    placement = Placement(units=(plan(2, ("a", (0,)), ("b", (1,))), plan(1, ("c", (0,)))), chips=("H200",))
    first, second = unit_specs(placement, OPTIONS)
    late = ModelOptions(name="late", path=Path("/late"), devices=(1,), rate=3.0)
    served = as_served(placement, [first.without("a").plus(late)])
    here = UnitPlan(devices=2, first_device=0, members=(placement.units[0].members[1], late_placed()))
    assert served == replace(placement, units=(here,)), "the other unit is no more"
    (again,) = unit_specs(served, OPTIONS, models=[*OPTIONS.models, late])
    assert (again.name, again.models) == ("0-1", ("b", "late"))
    assert unit_specs(as_served(placement, [first, second]), OPTIONS) == (first, second)


def late_placed() -> Placed:
    return Placed(model="late", rate_rps=3.0, devices=(1,))


def prefill_shares(unit: UnitPlan, **options) -> list[float | None]:
    common = replace(OPTIONS, sm_shares=(), **options)
    (one,) = unit_specs(Placement(units=(unit,)), common, devices=8)
    return [model.prefill_share for model in one.options.models]


def needing(*shares: float, devices: int = 1) -> UnitPlan:
    members = tuple(
        Placed(model=model, rate_rps=1.0, devices=tuple(range(devices)), sm_share=share)
        for model, share in zip("abc", shares, strict=False)
    )
    return UnitPlan(devices=devices, members=members)


def test_a_long_prefill_leaves_the_others_decodes_what_they_need():
    assert prefill_shares(needing(0.1, 0.3, 0.2)) == pytest.approx([0.5, 0.7, 0.6])
    assert prefill_shares(needing(0.2, 1.0)) == [None, 0.8]  # who needs all is helped by no share


def test_there_is_nobody_to_leave_anything():
    assert prefill_shares(needing(0.3)) == [None]
    assert prefill_shares(needing(0.3, 0.3, devices=2)) == [None, None]  # models take turns on all devices
    assert prefill_shares(needing(0.3, 0.3, 0.3), lanes=1) == [None, None, None]
    assert prefill_shares(needing(0.3, 0.3), policy="adbs") == [None, None]  # which chooses no shares


def test_what_the_configuration_says_of_shares_counts():
    (one,) = unit_specs(Placement(units=(needing(0.3, 0.3),)), OPTIONS, devices=8)
    assert one.options.sm_shares == (64,) and {model.prefill_share for model in one.options.models} == {None}
    a, *others = OPTIONS.models
    assert prefill_shares(needing(0.3, 0.3), models=(replace(a, prefill_share=1.0), *others)) == pytest.approx([1.0, 0.7])


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ((plan(2, ("a", (0, 1))), plan(7, ("b", (0,)))), "9 devices are needed, and there are 8"),
        ((plan(1, ("d", (0,))),), "not configured: d"),
        ((plan(2, ("a", (0,)), first=0), plan(1, ("b", (0,)), first=1)), r"share a device: \[1\]"),
        ((plan(1, ("a", (0,)), first=-1),), "first_device must be 0"),
        ((plan(1, ("a", (0,)), first=7), plan(-3, ("b", (0,)), first=3)), "devices must be 1 to 1024"),
        ((plan(0, ("a", ())),), "devices must be 1 to 1024"),
        ((plan(10**12, ("a", (0,))),), "1000000000000 devices are needed"),
        ((plan(1, ("a", (0,)), ("a", (0,))),), "named once each"),
        ((plan(1),), "no unit with a model"),
        ((plan(2, ("a", (0, 5))),), "devices"),
        ((needing(float("nan"), 0.3),), "sm_share of a must be over 0, to 1, got nan"),
        ((needing(0.3, -5.0),), "sm_share of b must be over 0, to 1"),
    ],
)
def test_what_cannot_be_served_is_refused(units, message):
    with pytest.raises(ConfigError, match=message):
        specs(*units)


@pytest.mark.parametrize(
    ("device", "chip", "other"),
    [
        ("NVIDIA H200", "H200", False),
        ("NVIDIA H100 80GB HBM3", "H200", True),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB", False),
        ("NVIDIA H200", "A100-80GB", True),
        ("NVIDIA H200", "mine", False),
        ("NVIDIA H200", "", False),
        ("cpu", "H200", False),
    ],
)
def test_a_placement_for_other_chips_is_noticed_where_both_are_known(device, chip, other):
    assert is_other_chip(device, chip) == other


@pytest.fixture
def folder(tmp_path):
    """Makes the folder of a model of that shape, without weights."""

    def make(spec: ModelSpec, **config) -> Path:
        path = tmp_path / "model"
        path.mkdir()
        (path / "config.json").write_text(json.dumps(to_hf_config(spec) | config))
        return path

    return make


def held(path: Path, placed: dict, **options) -> tuple[str | None, str]:
    """How a model is served that is placed so."""
    common = UnitOptions(models=(ModelOptions(name="a", path=path, **options),))
    member = Placed(model="a", rate_rps=1.0, devices=(0,), **placed)
    (one,) = unit_specs(Placement(units=(UnitPlan(devices=1, members=(member,)),)), common)
    return one.options.models[0].quantization, one.options.models[0].kv_cache_dtype


INT4 = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}}


def test_what_the_placer_has_assumed_of_weights_and_cache_is_served(folder):
    path = folder(BY_NAME["llama-3.2-1b"])
    assert held(path, {}) == (None, "auto")
    assert held(path, {"weights": "fp8"}) == ("fp8", "auto")
    assert held(path, {"cache": "fp8"}) == (None, "fp8")


def test_options_of_a_model_that_take_no_more_than_was_assumed_stay(folder):
    path, own = folder(BY_NAME["llama-3.2-1b"]), {"quantization": "fp8_w8a8", "kv_cache_dtype": "fp8_e4m3"}
    for placed in ({}, {"weights": "fp8", "cache": "fp8"}, {"weights": "int8", "cache": "int8"}):
        assert held(path, placed, **own) == ("fp8_w8a8", "fp8_e4m3")


def test_a_checkpoint_that_is_stored_in_no_more_stays_as_it_is(folder):
    path = folder(BY_NAME["llama-3.2-1b"], **INT4)
    for weights in ("int4", "int8", "fp8"):
        assert held(path, {"weights": weights}) == (None, "auto")


@pytest.mark.parametrize(
    ("placed", "options", "message"),
    [
        ({"weights": "int4"}, {}, "weights of a in int4, and they would be in bf16: .*checkpoint that is stored in int4"),
        ({"weights": "int4"}, {"quantization": "fp8"}, "weights of a in int4, and they would be in fp8"),
        ({"weights": "int8"}, {}, "weights of a in int8, and they would be in bf16: .*place it with weights: fp8"),
        ({"cache": "int8"}, {}, "cache of a in int8, which muxjax has none in: place it with cache: fp8"),
    ],
)
def test_what_cannot_be_held_in_so_few_bits_is_refused(folder, placed, options, message):
    with pytest.raises(ConfigError, match=message):
        held(folder(BY_NAME["llama-3.2-1b"]), placed, **options)


def test_a_model_that_cannot_be_rounded_is_refused_by_what_stands_against_it(folder):
    """An int4 checkpoint that is widened as it is loaded: nothing of it is held as it is stored."""
    by_activations = {"quantization_config": INT4["quantization_config"] | {"desc_act": True}}
    with pytest.raises(ConfigError, match=r"the placement has the weights of a in fp8: .*quantised yet, and these are in int4"):
        held(folder(BY_NAME["llama-3.2-1b"], **by_activations), {"weights": "fp8"})
