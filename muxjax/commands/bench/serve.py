"""`muxjax bench serve`: a load on running servers, and what came of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from muxjax.bench import report
from muxjax.bench.backends.processes import sigterm_as_ctrl_c
from muxjax.bench.records import Run
from muxjax.bench.summary import summary
from muxjax.bench.targets import Targets
from muxjax.commands.bench.options import BenchOptions, LoadOptions
from muxjax.commands.bench.session import Session
from muxjax.errors import MuxError
from muxjax.whole_file import require_writable, write_json

INTERRUPTED, INVALID = 130, 1
REPORT = b'{"date"'
"""Beginning of a file of numbers, without spaces."""


def run(load: LoadOptions, options: BenchOptions, targets: Targets) -> int:
    """Prints the summary of a run for each seed; 1 if the client fell behind or nothing was answered, 130 after Ctrl-C or SIGTERM.

    Raises:
      ConfigError: a file, a server or a model that is not there; OSError: records cannot be written any more. What was measured before
        is printed.
    """
    if options.json is not None:
        require_writable(options.json, field="json", begins=[REPORT])
    session = Session(options, load)
    status = 0
    try:
        with sigterm_as_ctrl_c():
            for seed in options.seeds:
                session.run(1.0, seed)
    except KeyboardInterrupt:
        if not session.runs:
            raise
        status = INTERRUPTED
    except (MuxError, OSError):
        if session.runs:
            tell(session.runs, targets, options.json, whole=False, base_url=options.base_url)
        raise
    valid = tell(session.runs, targets, options.json, whole=not status, base_url=options.base_url)
    return status or (0 if valid else INVALID)


def tell(runs: Sequence[Run], targets: Targets, output: Path | None, *, whole: bool = True, **about: str) -> bool:
    """Prints the summary and writes it where it is to go; whether it is valid, and tells of an answer.

    Args:
      whole: these are all runs that were to be.
    """
    found = summary(runs, targets)
    found = replace(found, complete=found.complete and whole)
    print("\n".join(report.text(found, runs)))
    if output is not None:
        write_json(output, report.values(found, runs, **about), field="json")
    return found.lag.valid and found.all.completed > 0
