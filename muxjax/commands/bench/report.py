"""`muxjax bench report` and `bench plot`: what records of earlier runs come to."""

from collections.abc import Sequence
from pathlib import Path

from muxjax.bench import plots
from muxjax.bench.records import Run, by_load, read_runs
from muxjax.bench.targets import Targets
from muxjax.commands.bench.serve import INVALID, REPORT, tell
from muxjax.errors import ConfigError
from muxjax.whole_file import require_writable
from muxjax.workload.plots import BEGINS, check


def run(files: Sequence[Path], targets: Targets, output: Path | None) -> int:
    """Prints the summary of each label and rate, of all seeds together; 1 if the client fell behind in one, or nothing was
    answered.

    Raises:
      ConfigError: a file that cannot be read or has no run, or more than one summary for one file.
    """
    if output is not None:
        require_writable(output, field="json", begins=[REPORT])
    groups = by_load(_runs(files))
    if output is not None and len(groups) > 1:
        raise ConfigError(f"json must be left out: the files have runs of {len(groups)} labels and loads", field="json")
    valid = True
    for runs in groups:
        if len(groups) > 1:
            print(f"{runs[0].begin.label}, {runs[0].begin.load}, x {runs[0].begin.scale:.4g}")
        valid = tell(runs, targets, output) and valid
    return 0 if valid else INVALID


def plot(files: Sequence[Path], output: Path, targets: Targets) -> None:
    """Draws them over their rates.

    Raises:
      ConfigError: a file that cannot be read or has no run, no matplotlib, or a place that cannot be written to.
    """
    check(output)
    require_writable(output, field="plot", begins=BEGINS)
    plots.draw(output, _runs(files), targets)


def _runs(files: Sequence[Path]) -> list[Run]:
    found = []
    for path in files:
        runs = read_runs(path)
        if not runs:
            raise ConfigError(f"{path} holds no run", field="records")
        found += runs
    return found
