"""Servers in processes of their own, for what is asked of them from outside."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from scripts import results


class Served(NamedTuple):
    """A server that is ready.

    Args:
      address: without the /v1.
      log: what it writes to its standard error.
    """

    process: subprocess.Popen[str]
    address: str
    log: Path


@contextlib.contextmanager
def telling(command: Sequence[str]) -> Iterator[str]:
    """The first line that a command of this Python prints, such as its address; it is ended, and waited for, when the block is left."""
    with subprocess.Popen([sys.executable, *command], cwd=results.ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextlib.contextmanager
def serving(configuration: Path, *, environment: Mapping[str, str] | None = None) -> Iterator[Served]:
    """`muxjax serve` of a configuration, on the processor, and killed when the block is left; the log lies beside the configuration.

    Args:
      environment: variables of its own.
    Raises:
      SystemExit: it does not start.
    """
    log, command = configuration.parent / "log", [sys.executable, "-u", "-m", "muxjax", "serve", str(configuration)]
    variables = os.environ | {"JAX_PLATFORMS": "cpu"} | dict(environment or {})
    with (
        log.open("w") as file,
        subprocess.Popen(command, cwd=results.ROOT, env=variables, stdout=subprocess.PIPE, stderr=file, text=True) as process,
    ):
        try:
            ready = next((line for line in process.stdout or () if line.startswith("http://")), None)
            if ready is None:
                raise SystemExit(f"the server did not start: {log.read_text()[-2000:]}")
            yield Served(process, ready.strip().removesuffix("/v1"), log)
        finally:
            process.kill()
