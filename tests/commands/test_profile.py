"""`muxjax profile` on a tiny model: every point is measured once, what is measured is kept, and bad input is one line."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from muxjax.__main__ import main
from muxjax.cost.measured import TableCosts
from muxjax.cost.roofline import mean_context
from muxjax.cost.table import Shape, read_table
from muxjax.device.profile import Point
from muxjax.errors import ConfigError
from muxjax.specs.config import read_spec
from muxjax.types import Phase
from tests.programs import with_jax_cache

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
}
GRID = "--decode-batch 1 8 --decode-context 16 64 --prefill-tokens 64 128 --prefill-context 16 64".split()
POINTS = {(phase, count, context) for phase, counts, half in (("decode", (1, 8), 0), ("prefill", (64, 128), 0.5)) for count in counts
          for context in (16 + half, 64 + half)}  # fmt: skip


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A folder of compiled programs for all of these tests: each asks for the same."""
    yield ["--compilation-cache-dir", str(tmp_path_factory.mktemp("programs"))]
    with_jax_cache()


@pytest.fixture
def models(tmp_path):
    """A model, and one whose heads fill no head block."""
    for name, width in (("tiny", 32), ("uneven", 24)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(CONFIG | {"hidden_size": width}))
    return tmp_path


@pytest.fixture
def profile(models, programs):
    """The command, on the model and others."""
    return lambda *others: main(["profile", str(models / "tiny"), *others, "-o", str(models / "costs.json"), *GRID, *programs])


def test_every_point_is_measured_and_the_table_is_a_cost_model(models, profile, capsys, monkeypatch):
    monkeypatch.setattr("muxjax.progress.SAY_S", 0.0)
    assert profile() == 0
    said = capsys.readouterr().err.splitlines()
    assert (said[0], said[-1]) == (f"measuring: {len(POINTS)}", f"measuring: {len(POINTS)} of {len(POINTS)}, tiny, tp 1")
    assert f"measuring: 0 of {len(POINTS)}, tiny, tp 1: loading" in said and any(line.endswith("programs compiled") for line in said)
    table, spec = read_table(models / "costs.json"), read_spec(models / "tiny")

    assert {(row.phase, row.count, row.context) for row in table.rows} == POINTS
    assert (table.device, table.shapes) == ("cpu", {"tiny": Shape.of(spec)})
    assert table.versions.keys() == {"python", "numpy", "jax"} and len(table.commits) == 1
    TableCosts(table)


def test_what_was_measured_before_a_run_ended_is_kept_and_not_measured_again(models, profile, capsys):
    out = models / "costs.json"
    assert profile(str(models / "uneven")) == 2
    assert "does not fill a head block" in capsys.readouterr().err
    found = json.loads(out.read_text())
    assert len(found["rows"]) == len(POINTS)
    found["rows"] = [row | {"seconds": 123.0} for row in found["rows"][:5]]
    found["shapes"].pop("uneven")
    out.write_text(json.dumps(found))

    assert profile() == 0
    again = read_table(out).rows
    assert [row.seconds for row in again[:5]] == [123.0] * 5
    assert len(again) == len(POINTS) and all(row.seconds < 100 for row in again[5:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tp", "4096"], "tp must be 1 to [0-9]+, the devices of this machine, got 4096"),
        (["--tp", "0"], "tp must be 1 or more, got 0"),
        (["--decode-batch", "300"], "decode_batch must be 1 to 256, got 300"),
        (["--prefill-tokens", "65"], "prefill.count must be a multiple of 8, got 65"),
        (["--prefill-context", "3"], "prefill.context must be at least half of 64 tokens over 8 prompts, got 3"),
        (["--decode-context", "0"], "decode_context must be 1 to 1048576, got 0"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(models, programs, capsys, arguments, message):
    assert main(["profile", str(models / "tiny"), "-o", str(models / "costs.json"), *GRID, *programs, *arguments]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and not (models / "costs.json").exists()
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(said)


def test_a_model_that_nobody_knows_is_named(profile, capsys):
    assert profile("llama-3.1-9b") == 2
    assert "model must be a folder with config.json, or one of llama-3.2-1b, " in capsys.readouterr().err


def test_a_table_of_another_machine_is_not_added_to(models, profile, capsys):
    assert profile() == 0
    text = (models / "costs.json").read_text().replace('"cpu"', '"NVIDIA H200"')
    (models / "costs.json").write_text(text)

    assert profile() == 2
    assert "costs.json was measured with device NVIDIA H200, and this is cpu: name another file" in capsys.readouterr().err
    assert (models / "costs.json").read_text() == text


@pytest.mark.parametrize("count, context, rows", [(128, 128, 1), (512, 128, 2), (2048, 128, 8), (2048, 1024, 1), (2048, 1023, 2)])
def test_a_prefill_has_as_few_prompts_as_its_context_allows(count, context, rows):
    point = Point(phase=Phase.PREFILL, count=count, context=context)

    assert (point.rows, point.rows * point.tokens) == (rows, count)
    assert mean_context(np.full(rows, point.start), np.full(rows, point.tokens)) == point.mean_context


def test_two_devices_are_measured_together(models, programs):
    """In a process of its own: this one's JAX has begun with one device."""
    there = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    command = [
        sys.executable,
        "-m",
        "muxjax",
        "profile",
        str(models / "tiny"),
        "-o",
        str(models / "costs.json"),
        "--tp",
        "1",
        "2",
        *GRID,
        *programs,
    ]
    ran = subprocess.run(command, env=os.environ | there, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    rows = read_table(models / "costs.json").rows
    assert {(row.tp, row.phase, row.count, row.context) for row in rows} == {(tp, *point) for tp in (1, 2) for point in POINTS}
