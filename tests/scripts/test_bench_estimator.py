"""The bench of the estimators runs, and has both of them in each of its groups."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_row_of_one_estimator_has_one_of_the_other(tmp_path):
    command = [sys.executable, "-m", "scripts.bench_estimator", "--tiny"]
    ran = subprocess.run(command, cwd=ROOT, env=os.environ | {"MUXJAX_RESULTS": str(tmp_path)}, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    rows = [line.split(" | ") for line in ran.stdout.splitlines()[2:]]
    groups = [{tuple(row[:3]) for row in rows if row[3] == title} for title in ("turns of ADBS", "equation 3")]
    assert groups[0] == groups[1] and {group[2] for group in groups[0]} >= {"throughput", "TPOT"}
    assert list(tmp_path.iterdir()) == []
