"""Writes runs as JSON lines into docs/results/<question>/, and Markdown from them: the one format of all measurements."""

import json
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from muxjax import origin

ROOT = Path(__file__).parents[1]
RESULTS = Path(os.environ.get("MUXJAX_RESULTS", ROOT / "docs" / "results"))
"""Of this tree; $MUXJAX_RESULTS on a machine whose copy of the tree does not come back."""


def run_record(*, device: str, config: dict[str, Any], seed: int, values: dict[str, Any]) -> dict[str, Any]:
    """One run: what was measured, on what, from which tree."""
    return {"commit": origin.commit(), "device": device, "versions": origin.versions(), "config": config, "seed": seed, "values": values}


def write_runs(question: str, name: str, records: Iterable[dict[str, Any]]) -> Path:
    """Writes docs/results/<question>/<name>.jsonl, one run a line; returns its path."""
    path = RESULTS / question / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def read_runs(question: str) -> list[dict[str, Any]]:
    """All runs of docs/results/<question>/, file by file."""
    return [run for runs in read_files(question) for run in runs]


def read_files(question: str) -> list[list[dict[str, Any]]]:
    """The runs of each file of docs/results/<question>/, in the order of their names."""
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in sorted((RESULTS / question).glob("*.jsonl"))]


def write_readme(question: str, text: str) -> None:
    """Writes docs/results/<question>/README.md."""
    (RESULTS / question / "README.md").write_text(text.strip() + "\n")


def write_section(name: str, text: str, page: Path = ROOT / "README.md") -> None:
    """Replaces what a page of the project holds between the comments `name` and `end of name`; only of results kept in this tree."""
    if not RESULTS.is_relative_to(ROOT):
        return
    before, begin, rest = page.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    assert begin and end, f"{page.name} has no section {name!r}"
    page.write_text(f"{before}{begin}{text.strip()}\n{end}{after}")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def host() -> str:
    """The machine's processor, for measurements of the host."""
    cpu = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")] if cpu.exists() else []
    )
    return f"{names[0]} x {len(names)}" if names else platform.processor() or platform.machine()
