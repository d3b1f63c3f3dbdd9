"""The client's own bench runs, and its page says what its lines say."""

import os
import subprocess
import sys
from pathlib import Path

from scripts.bench_client import page

ROOT = Path(__file__).parents[2]
VALUES = {"failed": 0, "seconds": 8.0, "peak_tokens_per_s": 20_500, "processor_s": 3.2, "sent_late_p99_s": 0.002, "loop_late_p99_s": 0.003}
VALUES |= {"valid": True, "first_error_s": {"p50": 0.001, "p99": 0.004}, "load_average": 1.5}


def record(rate: float, **changed) -> dict:
    config = {"rate": rate, "first_s": 0.05, "gap_s": 0.01, "tokens": 40, "prompt": 128, "cores": 2, "beside": "a test"}
    return {"config": config, "device": "a chip", "values": VALUES | changed}


def test_the_page_says_whether_the_goal_is_met():
    assert "| 500 | 20,500 | 2 ms | 3 ms | 1 ms | 4 ms | 40% | valid |" in page([record(500.0)])
    assert "2 cores is met" in page([record(100.0), record(500.0)])
    for missed in (record(400.0), record(500.0, failed=1), record(500.0, valid=False)):
        assert "2 cores is missed" in page([missed])


def test_a_slow_load_is_measured():
    command = [sys.executable, "-m", "scripts.bench_client", "--seconds", "1", "--rates", "20", "--keep-nothing"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"JAX_PLATFORMS": "cpu"})

    assert ran.returncode == 0, ran.stderr
    assert "| 20 | " in ran.stdout and "2 cores is missed" in ran.stdout
