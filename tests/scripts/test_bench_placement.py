"""The placement bench runs, and its pages say what its lines say."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_small_problems_are_placed_and_held_against_their_optimum(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "scripts.bench_placement", "--tiny"],
        cwd=ROOT,
        env=os.environ | {"MUXJAX_RESULTS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    rows = [line.strip("| ").split(" | ") for line in ran.stdout.splitlines() if line.startswith("| ")]
    speed = [row for row in rows if row[0] == "3"]
    assert len(speed) == 3 + 4 and all(0 < float(row[3]) <= float(row[2]) + 1 for row in speed)
    losses = [row for row in rows if len(row) > 1 and row[1].startswith(("greedy", "search"))]
    assert len(losses) == 12 and all(0 <= float(cell.rstrip("%")) <= 100 for row in losses for cell in row[4:7])
    assert not list(tmp_path.iterdir())
