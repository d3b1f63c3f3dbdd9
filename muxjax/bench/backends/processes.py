"""Processes of servers: each leads a group of its own, is told to end with the others, and is ended whatever it does."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from muxjax.bench.backends.backend import HOST, Ports, Server
from muxjax.errors import ConfigError

STOP_S = 30.0
"""Time in which servers must end when they are told to."""
PORTS = range(20000, 32768)
"""Below those that Linux gives to the ends of connections, which could take one that a server has not listened at yet."""
KEYS = frozenset({"MUXJAX_API_KEY", "MUXJAX_ADMIN_KEY", "VLLM_API_KEY"})
"""Variables by which a server would want a key, which are not handed on."""
TOLD_LINES = 15
"""Of a server's log, where it is told why it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A server's process.

    Args:
      log: what it prints, both outputs.
    """

    server: Server
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raises ConfigError: the process has ended; the end of its log is told."""
        status = self.process.poll()
        if status is not None:
            how = f"was ended by {_signal_name(-status)}" if status < 0 else f"has ended with {status}"
            raise ConfigError(f"{self.server.name} {how}: {self.told}", field="backend")

    @property
    def told(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-TOLD_LINES:])

    @property
    def family(self) -> frozenset[int]:
        """It and what it has started, in whatever group."""
        return family(self.process.pid)


@contextlib.contextmanager
def started(backend: str, servers: Sequence[Server], shared: Mapping[str, str], logs: Path) -> Iterator[Sequence[Started]]:
    """Processes of a backend's servers while the block runs; those that were started last are told first that it is over.

    Args:
      shared: variables that all of them get.
    Raises:
      ConfigError: a command cannot be called.
    """
    running: list[Started] = []
    try:
        for server in servers:
            log = logs / log_name(backend, server.name)
            running.append(Started(server=server, process=_start(server, shared, log), log=log))
        yield running
    finally:
        stop([one.process for one in reversed(running)])


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends processes, in time of their own accord, and then whatever is left of their families' groups; at once where even this is
    interrupted."""
    groups = {process.pid for process in processes if process.poll() is None}  # each leads one; others are looked for where Ctrl-C is heard
    try:
        groups |= {group for process in processes for member in family(process.pid) if (group := _group_of(member)) is not None}
        for process in processes:
            process.terminate()
        until_s = time.monotonic() + STOP_S
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until_s - time.monotonic()))
    finally:
        for group in groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        for process in processes:
            process.wait()


def family(ancestor: int) -> frozenset[int]:
    """A process and all that it and its children have started, as far as they live."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, unread = {ancestor}, [ancestor]
    while unread:
        unread += children.get(unread.pop(), [])
        found.update(unread)
    return frozenset(found)


def _group_of(process: int) -> int | None:
    """Of processes; none of one that has ended, or of our own."""
    with contextlib.suppress(OSError):
        group = os.getpgid(process)
        return group if group != os.getpgrp() else None
    return None


def log_name(backend: str, server: str) -> str:
    """A file's name, another one for each of them, whatever characters they have."""
    return f"{quote(backend, safe='')}-{quote(server, safe='')}.log"


@contextlib.contextmanager
def free_ports() -> Iterator[Ports]:
    """Ports of this host that nobody listens at; none twice while the block runs."""
    with contextlib.ExitStack() as held:
        left = iter(random.sample(PORTS, len(PORTS)))

        def port() -> int:
            for number in left:
                found = held.enter_context(socket.socket())
                with contextlib.suppress(OSError):
                    found.bind((HOST, number))
                    return number
            raise ConfigError(f"no port of {PORTS.start} to {PORTS.stop - 1} is free", field="backend")

        yield port


@contextlib.contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does there and then, so that what the block has begun is ended; nothing outside the main thread.

    It is handed on: in asyncio's `run` Ctrl-C cancels the task that was run, where an exception would end any task that it met. Who is
    deaf to Ctrl-C, as what a script's shell has put into the background, has that exception all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _ctrl_c)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _ctrl_c(*_: object) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def _start(server: Server, shared: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    handed_on = {name: value for name, value in os.environ.items() if name not in KEYS}
    environment = {**handed_on, **shared, **server.environment}
    with log.open("wb") as file:
        try:
            return subprocess.Popen(
                server.command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            raise ConfigError(f"{server.command[0]} cannot be started: {error.strerror or error}", field="backend") from error


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time one
        return f"signal {number}"
