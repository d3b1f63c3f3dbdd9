"""Servers that are started, waited for, checked and stopped."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from muxjax.bench.backends import mps
from muxjax.bench.backends.backend import Backend, Server
from muxjax.bench.backends.fleet import Fleet
from muxjax.errors import ConfigError

STOP_S, POLL_S = 30.0, 0.2
"""Time in which servers must end when they are told to, and how often it is looked whether they are ready."""
TOLD_LINES = 15
"""Of a server's log, in the error when it does not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A backend that serves.

    Args:
      urls: of each model; start_s: until all were ready.
      unattached: servers that should share the GPU through MPS and do not.
    """

    urls: Mapping[str, str]
    start_s: float
    unattached: int = 0


def lacking(backend: Backend) -> str:
    """Why it cannot be run here; empty if nothing is known to be missing."""
    missing = [name for name in backend.needs if shutil.which(name) is None and importlib.util.find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)} is not installed"
    return f"{mps.CONTROL} is not here" if backend.mps and shutil.which(mps.CONTROL) is None else ""


@contextlib.contextmanager
def serving(backend: Backend, fleet: Fleet, logs: Path, *, ready_s: float = 900.0) -> Iterator[Running]:
    """The backend while the block runs; its servers end in the opposite order.

    Args:
      logs: a folder for what each server prints.
    Raises:
      ConfigError: a server does not become ready; the end of its log is told.
    """
    begun_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        shared = stack.enter_context(mps.daemon()) if backend.mps and len(fleet.members) > 1 else {}
        servers = backend.servers(fleet, free_port)
        started = [(server, stack.enter_context(_started(server, shared, _log(logs, backend, server)))) for server in servers]
        _wait(backend, started, logs, begun_s + ready_s)
        unattached = mps.strangers((_group(process.pid) for _, process in started), mps.attached(shared)) if shared else 0
        urls = {model: server.url for server in servers for model in server.models}
        yield Running(urls=urls, start_s=time.monotonic() - begun_s, unattached=unattached)


def device_bytes() -> int:
    """Memory of the first GPU, as the driver tells; 0 where there is none."""
    told = _of_driver("memory.total")
    return int(told) * 2**20 if told.isdigit() else 0


def device_name() -> str:
    """Of the first GPU; empty where there is none."""
    return _of_driver("name")


def _of_driver(field: str) -> str:
    try:
        told = subprocess.run(
            ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return told.stdout.strip().partition("\n")[0] if not told.returncode else ""


def free_port() -> int:
    """A port of this host that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def _started(server: Server, shared: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, **shared, **server.environment}
    try:
        with log.open("wb") as file:
            process = subprocess.Popen(server.command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    except OSError as error:
        raise ConfigError(f"{server.command[0]} cannot be started: {error.strerror or error}", field="backend") from error
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the process, in time of its own accord, and then whatever it has left of its group."""
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _log(logs: Path, backend: Backend, server: Server) -> Path:
    return logs / f"{backend.name}-{server.name}.log"


def _wait(backend: Backend, started: Sequence[tuple[Server, subprocess.Popen[bytes]]], logs: Path, until_s: float) -> None:
    """Returns when all are ready; raises ConfigError if one ends before, or there is no time left."""
    left = list(started)
    with tqdm(total=len(left), desc=f"starting {backend.name}", unit=" servers", leave=False, disable=None) as bar:
        while left:
            for server, process in list(left):
                if is_ready(server):
                    left.remove((server, process))
                    bar.update()
                elif process.poll() is not None or time.monotonic() > until_s:
                    why = "is not ready in time" if process.poll() is None else f"has ended with {process.returncode}"
                    raise ConfigError(f"{backend.name}: {server.name} {why}: {_told(_log(logs, backend, server))}", field="backend")
            bar.refresh()
            time.sleep(POLL_S)


def is_ready(server: Server) -> bool:
    """Its models can be asked."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{server.health}", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _told(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-TOLD_LINES:])


def _group(leader: int) -> list[int]:
    """Processes of the leader's group, itself included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.getpgid(int(entry.name)) == leader:
                    found.append(int(entry.name))
    return found
