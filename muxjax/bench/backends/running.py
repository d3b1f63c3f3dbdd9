"""Backends that serve: started, waited for, watched and stopped."""

import contextlib
import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from muxjax.bench.backends import mps
from muxjax.bench.backends.asking import answers
from muxjax.bench.backends.backend import Backend
from muxjax.bench.backends.fleet import Fleet
from muxjax.bench.backends.processes import Started, free_ports, sigterm_as_ctrl_c, started
from muxjax.errors import ConfigError
from muxjax.progress import followed

POLL_S, HEALTH_S = 0.2, 5.0
"""How often it is looked whether servers are ready, and how long one may take to say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A backend that serves.

    Args:
      urls: of each model; start_s: until all were ready; used_bytes: of the first GPU's memory, by then.
      unattached: servers that should share the GPU through MPS and do not.
    """

    processes: Sequence[Started]
    urls: Mapping[str, str]
    start_s: float
    used_bytes: int = 0
    unattached: int = 0

    def check(self) -> None:
        """Raises ConfigError: a server has ended; the end of its log is told."""
        for one in self.processes:
            one.check()


def lacking(backend: Backend) -> str:
    """Why it cannot be run here; empty if nothing is known to be missing."""
    if backend.program and shutil.which(backend.program) is None:
        return f"{backend.program} is not on PATH"
    if backend.package and not _is_there(backend.package):
        return f"{backend.package} is not installed"
    return f"{mps.CONTROL} is not on PATH" if backend.mps and shutil.which(mps.CONTROL) is None else ""


def _is_there(module: str) -> bool:
    """It can be imported, as far as its packages tell, by `python -m`, which looks in this folder too."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
    finally:
        sys.path.remove(here)


@contextlib.contextmanager
def serving(backend: Backend, fleet: Fleet, logs: Path, *, ready_s: float = 900.0) -> Iterator[Running]:
    """The backend while the block runs, which SIGTERM interrupts as Ctrl-C does; none of its processes is left behind.

    Args:
      logs: a folder for what each server prints.
    Raises:
      ConfigError: a server does not become ready, or has ended when the block raised one; the end of its log is told.
    """
    begun_s, before_bytes = time.monotonic(), used_bytes()
    with contextlib.ExitStack() as stack:
        stack.enter_context(sigterm_as_ctrl_c())
        with free_ports() as port:
            servers = backend.servers(fleet, port)
        shared = stack.enter_context(mps.daemon()) if backend.mps and len(servers) > 1 else {}
        processes = stack.enter_context(started(backend.name, servers, shared, logs))
        _wait(backend, processes, begun_s + ready_s)
        unattached = mps.strangers([one.family for one in processes], mps.attached(shared)) if shared else 0
        urls = {model: server.url for server in servers for model in server.models}
        running = Running(
            processes=processes,
            urls=urls,
            start_s=time.monotonic() - begun_s,
            used_bytes=used_bytes() - before_bytes,
            unattached=unattached,
        )
        try:
            yield running
        except ConfigError:
            running.check()  # which is then why
            raise


def device_bytes() -> int:
    """Memory of the first GPU, as the driver tells; 0 where there is none."""
    return _mebibytes("memory.total")


def used_bytes() -> int:
    """Of the first GPU's memory, by whomever; 0 where there is none."""
    return _mebibytes("memory.used")


def device_name() -> str:
    """Of the first GPU; empty where there is none."""
    return _of_driver("name")


def _mebibytes(field: str) -> int:
    """Bytes of what the driver tells in MiB."""
    told = _of_driver(field)
    return int(told) * 2**20 if told.isdigit() else 0


def _of_driver(field: str) -> str:
    asked = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return told.stdout.strip().partition("\n")[0] if not told.returncode else ""


def _wait(backend: Backend, processes: Sequence[Started], until_s: float) -> None:
    """Returns when all are ready; raises ConfigError if one ends before, or there is no time left."""
    left = list(processes)
    with followed(f"starting {backend.name}", " servers", len(left)) as done:
        while left:
            for one in processes:
                one.check()
            ready = [one for one in left if answers(one.server.health_url, within_s=HEALTH_S)]
            left = [one for one in left if one not in ready]
            done(len(ready))
            if left and time.monotonic() > until_s:
                raise ConfigError(f"{left[0].server.name} is not ready in time: {left[0].told}", field="backend")
            if left:
                time.sleep(POLL_S)
