"""The soak passes on the server as it is, and would see each thing that must not be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.soak.run import faults, page
from scripts.soak.server import logged_faults
from scripts.soak.visits import Fault, check_choices

ROOT = Path(__file__).parents[2]
MIB = 2**20
STATE = {"load": 0, "tasks": 5, "total_blocks": 100, "free_blocks": 100}
GOOD = {
    "ledger": {"seen": 10, "unseen": 3, "kinds": {"ask": {"visits": 12, "refused": 2}}, "faults": []},
    "before": STATE | {"ended": {}},
    "after": STATE | {"ended": {"stop": 4, "length": 7, "abort": 1}},
    "memory_bytes": [300 * MIB] + [600 * MIB + i for i in range(500)],
    "exit_code": 0,
    "logged": [],
}


def test_a_server_that_stayed_whole_has_no_faults():
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    "changed, fault",
    [
        ({"after": GOOD["after"] | {"load": 1}}, "1 requests never ended"),
        ({"after": GOOD["after"] | {"free_blocks": 98}}, "2 head blocks are lost"),
        ({"after": GOOD["after"] | {"tasks": 6}}, "1 tasks are left"),
        ({"after": GOOD["after"] | {"ended": {"stop": 9}}}, "9 requests were answered, clients saw 10"),
        ({"after": GOOD["after"] | {"ended": {"stop": 14}}}, "14 requests were answered, clients saw 10 and left 3 alone"),
        ({"after": GOOD["after"] | {"ended": {"stop": 10, "abort": 4}}}, "14 requests ended, 13 were sent"),
        ({"memory_bytes": [(600 + i // 5) * MIB for i in range(500)]}, "memory grew by 60 MiB"),
        ({"exit_code": 1}, "code 1"),
        ({"logged": ["Traceback"]}, "the server logged: Traceback"),
        ({"ledger": GOOD["ledger"] | {"faults": ["ask: 500"]}}, "ask: 500"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_must_not_be_is_a_fault(changed, fault):
    found = faults(GOOD | changed)

    assert any(fault in one for one in found)
    record = {"values": GOOD | changed, "config": {"minutes": 1, "clients": 2}, "device": "x"}
    assert "faults; the first" in page(record)


@pytest.mark.parametrize(
    "ends, made",
    [(["stop"], 4), (["stop"] * 3, 4), (["stop", "abort"], 4), (["stop"] * 2, 1), (["stop"] * 2, 7)],
    ids=["lost", "doubled", "aborted", "too few tokens", "too many"],
)
def test_a_client_sees_what_is_wrong_with_its_answer(ends, made):
    asked = {"n": 2, "max_tokens": 3}
    check_choices(asked, ["stop", "length"], {"completion_tokens": 4})
    with pytest.raises(Fault):
        check_choices(asked, ends, {"completion_tokens": made})


def test_the_server_bears_a_short_soak():
    command = [sys.executable, "-m", "scripts.soak.run", "--minutes", "0.2", "--clients", "8", "--keep-nothing"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"JAX_PLATFORMS": "cpu"})

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "No fault was found." in ran.stdout


def test_a_fault_in_the_log_is_one_entry_with_its_traceback():
    log = (
        "2026-11-23 04:50:54,351 INFO muxjax: a request\n"
        "2026-11-23 04:50:54,352 ERROR aiohttp.server: Error handling request\nTraceback (most recent call last):\n  File x\nOSError: y\n"
        "2026-11-23 04:50:54,353 WARNING muxjax: an ERROR is not this\n"
        "2026-11-23 04:50:54,354 ERROR muxjax: another\n"
    )
    first, second = (entry.splitlines() for entry in logged_faults(log))
    assert (first[0][24:29], first[-1]) == ("ERROR", "OSError: y")
    assert second == ["2026-11-23 04:50:54,354 ERROR muxjax: another"]
