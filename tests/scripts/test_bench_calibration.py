"""The page of the roofline's errors says what a table's rows say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from muxjax.cost.chip import H200, MeshSpec
from muxjax.cost.roofline import decode, prefill
from muxjax.cost.table import CostTable, Row, Shape, read_table, write_table
from muxjax.specs.published import BY_NAME
from scripts.bench_calibration import FITTED, TABLES, fit

ROOT, SPEC = Path(__file__).parents[2], BY_NAME["llama-3.1-8b"]


def table(device: str = "NVIDIA H200", **factors: float) -> CostTable:
    """Steps that take so many times as long as the roofline says: decodes of 1, 8, 64 sequences and one prefill."""
    mesh, rows = MeshSpec(chip=H200), []
    for count, factor in zip((1, 8, 64), (factors["one"], factors["eight"], factors["many"]), strict=True):
        seconds = factor * decode(SPEC, mesh, count, count * 512).total_s
        rows.append(Row(model="mine", phase="decode", tp=1, count=count, context=512, seconds=seconds))
    seconds = factors["prompt"] * prefill(SPEC, mesh, 2048, 1024.5).total_s
    rows.append(Row(model="mine", phase="prefill", tp=1, count=2048, context=1024.5, seconds=seconds))
    return CostTable(device=device, versions={"jax": "0.11.2"}, commits=("abc",), shapes={"mine": Shape.of(SPEC)}, rows=tuple(rows))


def calibrate(folder: Path, measured: CostTable) -> subprocess.CompletedProcess:
    write_table(measured, folder / "table.json")
    command = [sys.executable, "-m", "scripts.bench_calibration", str(folder / "table.json")]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"MUXJAX_RESULTS": str(folder)}, capture_output=True, text=True, check=False)


def test_the_page_has_median_worst_and_bias_of_each_phase(tmp_path):
    ran = calibrate(tmp_path, table(one=1.0, eight=1.25, many=2.0, prompt=0.8))
    assert ran.returncode == 0, ran.stderr
    text = (tmp_path / "calibration" / "README.md").read_text()

    assert "| NVIDIA H200 | mine | 1 | decode | 3 | 20% | -50% | -20% | 64 x 512 |" in text
    assert "| NVIDIA H200 | mine | 1 | prefill | 1 | 25% | +25% | +25% | 2048 x 1024.5 |" in text
    assert "| NVIDIA H200 | all | all | decode | 3 | 20% |" in text
    assert "- NVIDIA H200, JAX 0.11.2, commit abc" in text
    assert len((tmp_path / "calibration" / "runs.jsonl").read_text().splitlines()) == 4


def test_a_device_without_a_preset_is_named(tmp_path):
    ran = calibrate(tmp_path, table("cpu", one=1, eight=1, many=1, prompt=1))

    assert ran.returncode != 0 and "device must be one of A100-80GB, H100, H200, B200, got 'cpu'" in ran.stderr
    assert not (tmp_path / "calibration").exists()


def test_the_preset_is_what_the_shipped_table_asks_for():
    found = fit(read_table(TABLES / "h200.json"))

    for name in FITTED:
        assert getattr(H200, name) == pytest.approx(getattr(found, name), rel=0.02)
