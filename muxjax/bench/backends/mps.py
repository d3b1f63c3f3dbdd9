"""NVIDIA's MPS, by which kernels of several processes run beside each other: a daemon of our own, and who is attached to it.

Its pipes lie in a folder of their own, so that neither a daemon of the host's is disturbed nor one of ours left to others.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from muxjax.errors import ConfigError

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
_ANSWER_S = 20.0


@contextlib.contextmanager
def daemon() -> Iterator[Mapping[str, str]]:
    """Variables by which processes attach to a daemon, which lives while the block runs.

    Raises:
      ConfigError: there is no MPS here, or it does not start.
    """
    if shutil.which(CONTROL) is None:
        raise ConfigError(f"MPS needs {CONTROL}, which comes with NVIDIA's driver and is not on PATH", field="mps")
    with tempfile.TemporaryDirectory(prefix="muxjax-mps-", ignore_cleanup_errors=True) as folder:
        variables = {PIPES: str(Path(folder, "pipes")), LOGS: str(Path(folder, "logs"))}
        for path in variables.values():
            Path(path).mkdir()
        try:
            _start(variables, Path(folder, "said"))
            yield variables
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                _ask("quit", variables)


def attached(variables: Mapping[str, str]) -> set[int]:
    """Processes that are clients of the daemon.

    Raises:
      ConfigError: it does not answer.
    """
    try:
        servers = [int(line) for line in _ask("get_server_list", variables).split() if line.isdigit()]
        return {int(line) for server in servers for line in _ask(f"get_client_list {server}", variables).split() if line.isdigit()}
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"MPS does not answer within {_ANSWER_S:g} s", field="mps") from error


def strangers(groups: Iterable[Iterable[int]], clients: set[int]) -> int:
    """How many of the groups of processes have none that is a client."""
    return sum(not clients.intersection(group) for group in groups)


def _start(variables: Mapping[str, str], said: Path) -> None:
    """Starts the daemon, which Ctrl-C does not reach: servers that are still ending need it. What it says goes to a file, as it may
    keep a pipe open for as long as it lives."""
    with said.open("wb") as file:
        try:
            started = subprocess.run(
                [CONTROL, "-d"],
                env=_whole(variables),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=_ANSWER_S,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ConfigError(f"MPS does not start within {_ANSWER_S:g} s", field="mps") from error
    if started.returncode:
        raise ConfigError(f"MPS does not start: {said.read_text(errors='replace').strip()}", field="mps")


def _ask(question: str, variables: Mapping[str, str]) -> str:
    told = subprocess.run(
        [CONTROL], input=f"{question}\n", env=_whole(variables), capture_output=True, text=True, timeout=_ANSWER_S, check=False
    )
    return told.stdout


def _whole(variables: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **variables}
