"""Worker processes on this host: started, found again after a restart of the front, and ended."""

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from muxjax.cluster.plan import UnitSpec
from muxjax.cluster.wire.frames import Address, UnixAddress
from muxjax.errors import ConfigError, require

_POLL_S = 0.02
_SHARED = Path("/tmp")
"""Folder in which everybody may have one."""
_MOST_FOLDER = 80
"""Bytes of the sockets' folder: the kernel takes paths of 107."""


class NoRoom(ConfigError):
    """There are no devices for a unit now; there may be later."""


class Handle(Protocol):
    """A worker's life, as whoever started it can tell and end it."""

    @property
    def address(self) -> Address: ...
    async def gone(self) -> bool:
        """The worker has ended by itself."""
        ...

    async def kill(self) -> None:
        """Ends it at once; returns when its devices are free."""
        ...


class Launcher(Protocol):
    """What gives units their workers."""

    async def start(self, spec: UnitSpec) -> Handle:
        """A worker for the unit: one that serves already, or a new one.

        Raises:
          NoRoom: there is no place for it, and a while was waited for one.
          ConfigError: it could not be started anywhere.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalLauncher:
    """Workers on this host, which outlive the front that started them.

    Args:
      folder: of their sockets; a front with the same folder finds them again.
      arguments: of `muxjax worker`, such as of its log.
    """

    folder: Path
    arguments: tuple[str, ...] = ()

    def __post_init__(self):
        length = len(os.fsencode(self.folder))
        require(length <= _MOST_FOLDER, "worker_dir", f"{length} bytes", f"a path of {_MOST_FOLDER} bytes at most, as sockets need it")

    def claim(self) -> None:
        """Keeps other fronts from the folder until this process ends: they would end each other's workers.

        Raises:
          ConfigError: one has it already.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.folder / "front.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            message = f"another server has its workers in {self.folder}: one on another address of the port needs a worker_dir of its own"
            raise ConfigError(message, field="worker_dir") from error

    def end_others(self, units: Iterable[str]) -> None:
        """Ends workers that a front with this folder has left, but for those of these units: they hold devices."""
        own = {f"unit-{unit}" for unit in units}
        for pid_file in self.folder.glob("unit-*.pid"):
            if pid_file.stem in own or not (pid := running(pid_file)):
                continue
            _kill_group(pid)
            while running(pid_file):
                time.sleep(_POLL_S)
            _forget(pid_file)

    async def start(self, spec: UnitSpec) -> Handle:
        address = UnixAddress(self.folder / f"unit-{spec.name}.sock")
        pid_file = address.path.with_suffix(".pid")
        if pid := running(pid_file):
            return LocalHandle(address, pid_file, pid, None)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [sys.executable, "-m", "muxjax", "worker", "--socket", str(address.path), "--name", spec.name, *self.arguments]
        process = subprocess.Popen(
            command, env=environment(spec, os.environ), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        try:
            pid_file.write_text(f"{process.pid} {born(process.pid)}\n")
        except OSError:  # nobody would find it again
            process.kill()
            process.wait()
            raise
        return LocalHandle(address, pid_file, process.pid, process)


class LocalHandle:
    """A process of this host, a child of this one or of a front before it."""

    def __init__(self, address: UnixAddress, pid_file: Path, pid: int, process: "subprocess.Popen[bytes] | None"):
        self.address: Address = address
        self._pid_file, self._pid, self._process = pid_file, pid, process

    async def gone(self) -> bool:
        return self._gone()

    async def kill(self) -> None:
        _kill_group(self._pid)
        while not self._gone():
            await asyncio.sleep(_POLL_S)
        _forget(self._pid_file)

    def _gone(self) -> bool:
        if self._process is not None:
            return self._process.poll() is not None
        return running(self._pid_file) != self._pid


def _kill_group(pid: int) -> None:
    """Ends a worker and what it has started, compilers among it, which would outlive it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _forget(pid_file: Path) -> None:
    """Takes away what a worker that is gone has left in the folder."""
    pid_file.with_suffix(".sock").unlink(missing_ok=True)
    pid_file.unlink(missing_ok=True)


def environment(spec: UnitSpec, outer: Mapping[str, str]) -> dict[str, str]:
    """Variables of a worker: it sees the unit's devices and no others."""
    inner = dict(outer)
    if is_cpu(outer):
        inner["XLA_FLAGS"] = cpu_flags(outer, len(spec.devices))
        return inner
    visible = [name for name in outer.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    inner["CUDA_VISIBLE_DEVICES"] = ",".join(visible[device] if visible else str(device) for device in spec.devices)
    return inner


def cpu_flags(outer: Mapping[str, str], devices: int) -> str:
    """XLA's flags by which the CPU stands in for so many devices."""
    flags = [flag for flag in outer.get("XLA_FLAGS", "").split() if not flag.startswith("--xla_force_host_platform_device_count")]
    return " ".join([*flags, f"--xla_force_host_platform_device_count={devices}"])


def device_count(outer: Mapping[str, str]) -> int | None:
    """GPUs that this process may use; None where there is none, and CPUs stand in for as many devices as are wanted."""
    if is_cpu(outer):
        return None
    there = len([name for name in os.listdir("/dev") if name.startswith("nvidia") and name[6:].isdigit()])
    visible = outer.get("CUDA_VISIBLE_DEVICES")
    return there if visible is None else min(there, len([name for name in visible.split(",") if name]))


def is_cpu(outer: Mapping[str, str]) -> bool:
    """JAX is told to use CPUs, or finds no GPU, as where all are hidden from it."""
    told, hidden = told_cpu(outer), outer.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    return hidden or not Path("/dev/nvidiactl").exists() if told is None else told


def told_cpu(outer: Mapping[str, str]) -> bool | None:
    """JAX is told to use CPUs, or something else; None where it is told nothing."""
    platforms = outer.get("JAX_PLATFORMS", "")
    return platforms.split(",")[0] == "cpu" if platforms else None


def socket_folder(port: int) -> Path:
    """Where the workers of a server on that port have their sockets, unless it is told otherwise: in the user's own folder for such, if the
    environment names one, and not that of who has become this user.

    Raises:
      ConfigError: it is in somebody else's hands.
    """
    named = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    base = named if named.is_absolute() and _is_own(named) else _SHARED / f"muxjax-{os.getuid()}"
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_own(base):  # they would put workers of their own there
        raise ConfigError(f"{base} is another user's", field="worker_dir")
    return base / "muxjax" / str(port)


def _is_own(folder: Path) -> bool:
    return folder.is_dir() and folder.lstat().st_uid == os.getuid()


def running(pid_file: Path) -> int | None:
    """The process that the file names, if it still runs and no other has its number by now."""
    try:
        pid, ticks = map(int, pid_file.read_text().split())
    except (OSError, ValueError):
        return None
    return pid if ticks and born(pid) == ticks else None


def born(pid: int) -> int:
    """When a process began, in the kernel's ticks; 0 for one that does not run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])
