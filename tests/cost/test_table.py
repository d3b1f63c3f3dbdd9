"""Tables of measured steps: what was measured comes back, nothing in between falls, broken files are named."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.cost.chip import A100, H100, H200, MeshSpec
from muxjax.cost.measured import TableCosts, of_chip
from muxjax.cost.roofline import Roofline
from muxjax.cost.table import CostTable, Row, Shape, read_table, write_table
from muxjax.errors import ConfigError
from muxjax.specs.published import BY_NAME

SPEC, MESH = BY_NAME["llama-3.1-8b"], MeshSpec(chip=H200)
NOISY = {(1, 128): 4.0, (1, 1024): 4.1, (8, 128): 3.9, (8, 1024): 4.6, (64, 128): 5.0, (64, 1024): 9.0}
"""Milliseconds by batch and context; the third is noise."""
ROWS = tuple(
    Row(model="8b", phase="decode", tp=1, count=count, context=context, seconds=ms / 1e3) for (count, context), ms in NOISY.items()
)
TABLE = CostTable(device="NVIDIA H200", versions={"jax": "0.11.2"}, commits=("abc",), shapes={"8b": Shape.of(SPEC)}, rows=ROWS)
COSTS = TableCosts(TABLE)


def decode_ms(batch: int, context: int) -> float:
    return COSTS.decode_s(SPEC, MESH, batch, batch * context) * 1e3


def test_what_was_measured_comes_back():
    assert decode_ms(64, 1024) == pytest.approx(9.0)
    assert decode_ms(1, 128) == pytest.approx(4.0)


def test_between_measurements_both_directions_are_linear():
    assert decode_ms(64, 576) == pytest.approx(7.0)
    assert decode_ms(36, 1024) == pytest.approx(6.8)


def test_noise_that_made_more_work_cheaper_is_raised():
    assert decode_ms(8, 128) == pytest.approx(4.0)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 4000), st.integers(1, 4000))
def test_more_work_never_costs_less(batch, more_batch, context, more_context):
    assert decode_ms(batch + more_batch, context) >= decode_ms(batch, context) * (1 - 1e-9)
    assert decode_ms(batch, context + more_context) >= decode_ms(batch, context) * (1 - 1e-9)


def test_beyond_the_table_the_roofline_tells_the_rest_of_the_way():
    ratio = Roofline().decode_s(SPEC, MESH, 128, 128 * 1024) / Roofline().decode_s(SPEC, MESH, 64, 64 * 1024)

    assert decode_ms(128, 1024) == pytest.approx(9.0 * ratio)


@pytest.mark.parametrize("mesh", [MeshSpec(chip=H100), MeshSpec(chip=H200, tp=2)])
def test_what_was_not_measured_is_the_rooflines(mesh):
    assert COSTS.decode_s(SPEC, mesh, 8, 1024) == Roofline().decode_s(SPEC, mesh, 8, 1024)
    assert COSTS.prefill_s(SPEC, mesh, 8, 4.5) == Roofline().prefill_s(SPEC, mesh, 8, 4.5)


def test_a_table_is_read_as_it_was_written(tmp_path):
    write_table(TABLE, tmp_path / "costs.json")

    assert read_table(tmp_path / "costs.json") == TABLE


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda found: found.update(version=2), "version must be 1, got 2"),
        (lambda found: found.update(extra=1), "table.extra must be one of version"),
        (lambda found: found.pop("device"), "table.device must be there"),
        (lambda found: found.update(rows=[]), "rows must be a list of at least one"),
        (lambda found: found["rows"][1].update(seconds=float("nan")), r"rows\[1\].seconds must be over 0 and finite, got nan"),
        (lambda found: found["rows"][0].update(count=0), r"rows\[0\].count must be a whole number, 1 or more, got 0"),
        (lambda found: found["rows"][0].update(phase="both"), r"rows\[0\].phase must be prefill or decode"),
        (lambda found: found["rows"][0].update(model="3b"), r"rows\[0\].model must be one of 8b, got '3b'"),
        (lambda found: found["rows"].append(found["rows"][0]), r"rows must be measured once each, got \('8b', 'decode', 1, 1, 128\)"),
        (lambda found: found["shapes"]["8b"].update(heads=0), "shapes.8b.heads must be a whole number, 1 or more, got 0"),
        (lambda found: found["shapes"]["8b"].pop("tied"), "shapes.8b.tied must be there"),
        (lambda found: found["shapes"]["8b"]["windows"].pop(), "shapes.8b.windows must be a number of tokens or null for each layer"),
    ],
)
def test_a_broken_table_names_field_value_and_limit(tmp_path, change, message):
    write_table(TABLE, tmp_path / "costs.json")
    found = json.loads((tmp_path / "costs.json").read_text())
    change(found)
    (tmp_path / "costs.json").write_text(json.dumps(found))

    with pytest.raises(ConfigError, match=message):
        read_table(tmp_path / "costs.json")


def test_a_checkpoint_of_the_same_shape_costs_what_was_measured():
    other = replace(SPEC, max_len=4096, eos_ids=(7,), rope_theta=1e4)

    assert COSTS.decode_s(other, MESH, 64, 64 * 1024) == pytest.approx(9e-3)
    assert COSTS.decode_s(replace(SPEC, ffn=8192), MESH, 64, 64 * 1024) == Roofline().decode_s(replace(SPEC, ffn=8192), MESH, 64, 64 * 1024)


def test_a_profile_that_was_cut_off_is_no_cost_model():
    with pytest.raises(ConfigError, match=r"rows must have 8b's decode of 64 at context 1024, tp 1.*run the profile to its end"):
        TableCosts(replace(TABLE, rows=ROWS[:-1]))


def test_a_device_is_the_chip_that_jax_names():
    assert of_chip(A100, "NVIDIA A100-SXM4-80GB") and of_chip(H200, "NVIDIA H200")
    assert not of_chip(H100, "NVIDIA H200") and not of_chip(H200, "cpu")


def test_two_tables_of_one_device_are_one_cost_model():
    pair = MeshSpec(chip=H200, tp=2)
    other = replace(TABLE, rows=tuple(replace(row, tp=2, seconds=row.seconds / 2) for row in ROWS))
    both = TableCosts(TABLE, other)

    assert (both.decode_s(SPEC, MESH, 64, 64 * 1024), both.decode_s(SPEC, pair, 64, 64 * 1024)) == pytest.approx((9e-3, 4.5e-3))


def test_a_mixture_is_measured_for_itself_and_older_tables_say_nothing_of_experts(tmp_path):
    mixture = BY_NAME["olmoe-1b-7b"]
    table = replace(TABLE, shapes={"8b": Shape.of(mixture)})
    write_table(table, tmp_path / "costs.json")
    assert read_table(tmp_path / "costs.json") == table
    assert TableCosts(table).decode_s(mixture, MESH, 8, 8 * 128) == pytest.approx(4e-3)
    assert mixture.experts
    other = replace(mixture, experts=replace(mixture.experts, per_token=4))
    assert TableCosts(table).decode_s(other, MESH, 8, 1024) == Roofline().decode_s(other, MESH, 8, 1024)
    entries = json.loads((tmp_path / "costs.json").read_text())
    shape = entries["shapes"]["8b"]
    entries["shapes"]["8b"] = {name: value for name, value in shape.items() if "expert" not in name and name != "shared_ffn"}
    (tmp_path / "older.json").write_text(json.dumps(entries))
    assert read_table(tmp_path / "older.json").shapes["8b"] == Shape.of(replace(mixture, experts=None))
